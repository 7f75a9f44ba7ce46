# SPDX-License-Identifier: Apache-2.0
"""A session: applies the stream of events to the processes' accounts, in order of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np

from kwatch.aggregate.call_sums import SummedCalls
from kwatch.aggregate.syscall_stacks import SyscallStackAccount
from kwatch.aggregate.syscalls import SyscallAccount
from kwatch.model.options import TraceOptions
from kwatch.model.snapshot import Footprint
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.programs.sources import CALL_SUMS, SYSCALLS
from kwatch.rings.perf_ring import Control, ControlRecord, MappingRecord
from kwatch.rings.stream import Drained, by_process
from kwatch.session.ended import EndedProcesses
from kwatch.session.gaps import RecordGaps
from kwatch.session.lifecycle import Lifecycle, mapping_of
from kwatch.session.losses import LossAccount
from kwatch.session.notices import Notices
from kwatch.session.observer import CodeObserver, Observer
from kwatch.session.short_lived import ShortLived
from kwatch.session.slot_events import SlotAccount, SlotEvents, count_foreign
from kwatch.session.tracees import Tracees
from kwatch.session.tracer import Tracer
from kwatch.stacks.assembler import stack_of
from kwatch.stacks.pending import PendingStacks
from kwatch.stacks.reader import StackReader
from kwatch.symbols.reader import Reader
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.tables.publisher import TablePublisher
from kwatch.tables.stores import TableStores
from kwatch.tables.table_loader import TableLoader
from kwatch.wire.events import Batch, Loss, types_of

_LOOK_S = 0.002  # between checks for newly mapped code
_STACKS_S = 0.002  # limit for reading the stacks of one batch
_MUST_READ_S = 1.0  # limit for those of a batch that cannot wait; the rest is sent again
_MAY_READ_S = 10.0  # the same, while the rings have room: on a machine that is overloaded
_MUST_READ_ALL_S = 0.2  # system-wide
_MAX_RESENT = 256  # stacks of a process in a batch; each takes a call


class Session:
    """Owns the accounts.

    `on_exit` is called with each process that ends, while it is still in the process table.
    """

    def __init__(
        self,
        options: TraceOptions,
        tracer: Tracer,
        notices: Notices,
        on_exit: Callable[[Process], None],
        observers: Sequence[Observer] = (),
    ) -> None:
        self.options = options
        self.syscalls = SyscallAccount()
        self.call_stacks = SyscallStackAccount()
        self._tracer = tracer
        self._on_exit = on_exit
        self._observers = observers
        self.stacks = self._stack_reader(notices) if options.stacks else None
        stream = tracer.stream
        self._pending = PendingStacks(
            stream.read_stacks, self._read_stack, self._drop_stack, stream.has_room
        )
        self._dropped_stacks: dict[int, set[int]] = {}  # by pid
        self.tracees = Tracees(options, tracer, self.stacks, notices, self._ended)
        own, discover = tracer.targets.own, self.tracees.discover
        self._slot_events = {
            source: SlotEvents(accounts, self.process_table, own, discover)
            for source, accounts in self._slot_accounts().items()
        }
        self.ended = EndedProcesses(self.process_table, self.syscalls)
        self._short_lived = ShortLived(self.process_table, self.ended)
        self._lifecycle = Lifecycle(options, self.tracees, self._pid_reused, tracer.held)
        self._lifecycle.code_observers = [
            each for each in observers if isinstance(each, CodeObserver)
        ]
        self._gaps = RecordGaps(self._lost_records, self._reread)
        self.losses = LossAccount(
            tracer.losses,
            tracer.stream,
            self.process_table,
            lambda: self.unknown_events,
            lambda: self._short_lived.skipped_events,
        )
        self.concerns = self._lifecycle.concerns
        self._unknown_events = 0
        self._next_look = 0.0

    def _slot_accounts(self) -> dict[str, list[SlotAccount]]:
        """The accounts that know all processes by their slots, by the source of their events."""
        found: dict[str, list[SlotAccount]] = {SYSCALLS: []}
        if not self.options.record:
            found[SYSCALLS].append(self.syscalls)
            if self.options.call_stacks:
                found[SYSCALLS].append(self.call_stacks)
        if self.options.sums_calls:
            found[CALL_SUMS] = [SummedCalls(self.syscalls)]
        return found

    @property
    def process_table(self) -> ProcessTable:
        return self.tracees.process_table

    def _stack_reader(self, notices: Notices) -> StackReader:
        targets = self._tracer.targets  # a traced symbol reader would have stacks to read
        reader = Reader(targets.add_own, targets.remove_own)
        symbolizer = Symbolizer(reader=reader, warn=notices.warn)
        stores, loader = TableStores.open(self._tracer.programs.maps), TableLoader(notices.report)
        tables = TablePublisher(stores, loader, notices.report)
        return StackReader(tables, symbolizer, self.call_stacks, self._stack_read)

    def apply(self, drained: Drained) -> None:
        """Applies a batch: control records and ordered events by time, then unordered events.

        Unordered events are applied after forks, which make their processes known, and before
        exits.
        """
        self._short_lived.skip(drained)
        if self.options.system_wide:
            self._pending.limit(_MUST_READ_ALL_S)
        else:
            self._pending.limit(_MUST_READ_S, _MAY_READ_S)
        for source, events in self._slot_events.items():
            events.begin(drained.unordered.get(source, []))
        self._lifecycle.foresee(drained.control)
        self._lifecycle.has_gaps = self._gaps.are_open
        self._load_tables(drained.control)
        self._pending.add(drained.stacks)
        self._apply_in_order(drained)
        self._pending.read_some(_STACKS_S)
        for source, events in self._slot_events.items():
            events.finish()
            self._show_batches(source, drained.unordered.get(source, []))
        self._end_those_ending()
        self._gaps.close_due()
        self._resend_stacks()
        if self.stacks is not None:
            self.stacks.batch_done(self.process_table)

    def _apply_in_order(self, drained: Drained) -> None:
        rest = dict(drained.ordered)
        for record in drained.control:
            if not isinstance(record, MappingRecord) or self._replaces_code(record):
                self._pending.read_before(record.time_ns)
            if isinstance(record, ControlRecord):
                for source, batch in rest.items():
                    count = int(np.searchsorted(batch["time_ns"], np.uint64(record.time_ns)))
                    self._add_ordered(source, batch[:count])
                    rest[source] = batch[count:]
            self._lifecycle.apply(record)
            self._look_for_code()
        for source, batch in rest.items():
            self._add_ordered(source, batch)

    def _add_ordered(self, source: str, batch: Batch) -> None:
        for pid, part in by_process(batch) if len(batch) else ():
            process = self.process_table.get(pid) or self.tracees.discover(pid)
            if process is None:
                self._unknown_events += count_foreign(part, self._tracer.targets.own)
            else:
                part = part[_predating(part, process.attached_ns) :]
                process.accounts.add(source, part, types_of(part))
        if len(batch):
            self._show_batches(source, [batch])

    def _show_batches(self, source: str, batches: Iterable[Batch]) -> None:
        for observer in self._observers:
            for batch in batches:
                observer.on_batch(source, batch)

    def _replaces_code(self, record: MappingRecord) -> bool:
        """Whether earlier stacks may lead through other code at the same addresses."""
        process = self.process_table.get(record.pid)
        return process is not None and process.code.space.has_other_code(mapping_of(record))

    def _look_for_code(self) -> None:
        """Loads the tables of code that was mapped while a long batch is being applied."""
        now = time.monotonic()
        if now >= self._next_look:
            self._load_tables(self._tracer.stream.look_ahead())
            self._next_look = now + _LOOK_S

    def _load_tables(self, control: Iterable[Control]) -> None:
        """Loads the tables of newly mapped code, before all else: the code already runs."""
        if self.stacks is None:
            return
        for record in control:
            if isinstance(record, MappingRecord) and record.pid in self.process_table:
                self.stacks.load(record.pid, [mapping_of(record)])

    def _lost_records(self) -> int:
        return self._tracer.stream.lost_control_records + self._lifecycle.missed_unmaps

    def gap(self, process: Process) -> str:
        """Why kwatch may have missed some of the process's heap; empty if it missed nothing."""
        if process.facts.exited and self._gaps.are_open:
            return (
                "records of mappings were lost shortly before it ended, so an allocator may have "
                "had no probes"
            )
        return self.tracees.gap(process)

    def close_gaps(self) -> None:
        """Makes up for missing control records of the processes that still run."""
        self._gaps.close()

    def _reread(self) -> None:
        """Reads all processes again: execs and mappings may be among the lost records."""
        for process in self.process_table:
            self.tracees.reread(process)

    def _end_those_ending(self) -> None:
        ending, self._lifecycle.ending = self._lifecycle.ending, []
        if ending:
            self._pending.read_before(max(process.ended_ns for process in ending) + 1)
        self.tracees.end(ending)

    def _pid_reused(self, time_ns: int) -> None:
        for events in self._slot_events.values():
            events.apply_until(time_ns)

    def _read_stack(self, data: bytes) -> None:
        if self._short_lived.was_skipped(data):
            return
        self._look_for_code()
        raw = self.stacks.assembled(data) if self.stacks is not None else None
        if raw is None or self.stacks is None:
            return
        process = self.process_table.get(raw.pid) or self.tracees.discover(raw.pid)
        if process is not None:
            self.stacks.add(process, raw)

    def _drop_stack(self, data: bytes) -> None:
        pid, stack = stack_of(data)
        self._dropped_stacks.setdefault(pid, set()).add(stack)

    def _resend_stacks(self) -> None:
        """Counts the dropped stacks as lost, until they are sent again."""
        dropped, self._dropped_stacks = self._dropped_stacks, {}
        for pid, stacks in dropped.items():
            self._tracer.stream.undelivered[Loss.STACK_RING_FULL] += len(stacks)
            process = self.process_table.get(pid)
            if process is not None and self.stacks is not None:
                self.stacks.resend(process, islice(stacks, _MAX_RESENT))

    def _stack_read(self, process: Process, identity: int, stack: Stack) -> None:
        for observer in self._observers:
            observer.on_stack(process, identity, stack)

    def _ended(self, process: Process) -> None:
        self._on_exit(process)
        if self.options.system_wide:
            self.ended.add(process.facts.comm, process.slot)
        for events in self._slot_events.values():
            events.drop(process.slot)

    def skip(self, process: Process) -> None:
        """Counts the heap events of a process that has ended and gets no report as lost."""
        self._short_lived.leave_out(process)

    @property
    def unknown_events(self) -> int:
        """How many events are in no report because their process is unknown."""
        return self._unknown_events + sum(e.unknown_events for e in self._slot_events.values())

    @property
    def has_room_for_stacks(self) -> bool:
        """Whether there is room for more pending stacks."""
        return self._pending.has_room

    @property
    def is_behind(self) -> bool:
        """Whether pending stacks can be read now."""
        return bool(self._pending) or (self.stacks is not None and self.stacks.is_behind)

    @property
    def has_unread_stacks(self) -> bool:
        return bool(self._pending) or (self.stacks is not None and self.stacks.has_unfinished)

    def read_stacks(self, seconds: float, before_ns: float = math.inf) -> None:
        """Reads all stacks from before a moment.

        Waits at most `seconds` for the unwind tables that they need, or longer while the rings have
        room; with 0, those that need some are left as they are known.
        """
        if before_ns == math.inf:
            self._pending.limit(max(seconds, _MUST_READ_ALL_S))
        self._pending.read_before(before_ns)
        if self.stacks is not None and (seconds or before_ns == math.inf):
            may_wait = seconds > 0 and not self.options.system_wide
            until = time.monotonic() + (_MAY_READ_S if may_wait else 0)
            has_room = self._tracer.stream.has_room
            self.stacks.finish(seconds, lambda: time.monotonic() < until and has_room())

    @property
    def symbolizer_thread(self) -> SymbolizerThread | None:
        """The thread that symbolizes stacks; None without stacks."""
        return self.stacks.symbolizer_thread if self.stacks is not None else None

    def footprint(self) -> Footprint | None:
        return self.stacks.footprint() if self.stacks is not None else None

    def close(self) -> None:
        if self.stacks is not None:
            self.stacks.close()


def _predating(events: Batch, attached_ns: int) -> int:
    """How many of the events are older than the attach: an earlier target's with the same pid."""
    if events["time_ns"][0] >= attached_ns:
        return 0
    return int(np.searchsorted(events["time_ns"], np.uint64(attached_ns)))


def now_ns() -> int:
    """The time on the clock of the events."""
    return time.monotonic_ns()
