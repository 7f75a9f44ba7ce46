# SPDX-License-Identifier: Apache-2.0
"""A session: applies the stream of events to the processes' accounts, in order of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.call_stacks import CallStackAccount
from kwatch.aggregate.distinct import distinct_values
from kwatch.aggregate.syscalls import CHUNK, SyscallAccount
from kwatch.model.options import WatchOptions
from kwatch.model.snapshot import Footprint
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.rings.perf_ring import Control, ControlRecord, MappingRecord
from kwatch.rings.stream import Drained, by_process, is_stack
from kwatch.session.lifecycle import Lifecycle, mapping_of
from kwatch.session.tracees import Tracees
from kwatch.session.tracer import Tracer
from kwatch.stacks.pending import StackQueue
from kwatch.stacks.reader import StackReader
from kwatch.symbols.reader import Reader
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.tables.publisher import TablePublisher
from kwatch.targets import processes
from kwatch.wire.events import Batch, types_of

_LOOK_S = 0.002  # between two looks for code that has been mapped
_STACKS_S = 0.002  # for the stacks of one batch
_REREAD_S = 1.0  # after a loss, until no older records are on their way


class Session:
    """Owns the accounts.

    `on_exit` is called with each process that ends, while it is still known; `warn`, which may be
    replaced, with a line for people when a file cannot be read.
    """

    def __init__(
        self, options: WatchOptions, tracer: Tracer, on_exit: Callable[[Process], None]
    ) -> None:
        self.options = options
        self.syscalls = SyscallAccount()
        self.call_stacks = CallStackAccount()
        self.warn: Callable[[str], None] = lambda line: None
        self._tracer = tracer
        self._on_exit = on_exit
        self._stacks = self._stack_reader() if options.stacks else None
        self._waiting = StackQueue(tracer.stream, self._read_stack)
        self.tracees = Tracees(options, tracer, self._stacks, self._ended)
        self._lifecycle = Lifecycle(options, self.tracees, self._add_syscalls_until)
        self.concerns = self._lifecycle.concerns
        self._calls: list[Batch] = []
        self._unknown_calls: list[Batch] = []
        self._unknown_events = 0
        self._next_look = 0.0
        self._lost_control = 0
        self._reread_at = math.inf

    @property
    def process_table(self) -> ProcessTable:
        return self.tracees.process_table

    def _stack_reader(self) -> StackReader:
        unwinder = TablePublisher(self._tracer.programs, lambda line: self.tracees.announce(line))
        return StackReader(unwinder, self._open_symbolizer(), self.call_stacks)

    def _open_symbolizer(self) -> Symbolizer:
        """The process that reads symbols must not be traced, or it would have stacks to read."""

        def started(pid: int) -> None:
            processes.OWN.add(pid)
            self._tracer.add_own(pid)

        def ending(pid: int) -> None:
            processes.OWN.discard(pid)
            self._tracer.forget_own(pid)

        symbolizer = Symbolizer(reader=Reader(started, ending))
        symbolizer.warn = lambda line: self.warn(line)
        return symbolizer

    def apply(self, drained: Drained) -> None:
        """Hands a batch on. Heap events are interleaved with what happens to their processes.

        System calls come after the forks, which make their processes known, and before the ends.
        """
        done = 0
        self._calls = drained.syscalls
        late, self._unknown_calls = self._unknown_calls, []
        self._lifecycle.foresee(drained.control)
        self._lifecycle.has_gaps = self._has_gaps()
        self._load_tables(drained.control)
        times = drained.heap["time_ns"]
        for record in drained.control:
            if isinstance(record, ControlRecord) and is_stack(record):
                self._waiting.add(record)
                continue
            if not isinstance(record, MappingRecord) or self._replaces_code(record):
                self._waiting.read_before(record.time_ns)
            if isinstance(record, ControlRecord):
                until = int(np.searchsorted(times, np.uint64(record.time_ns)))
                self._add_heap(drained.heap[done:until])
                done = max(done, until)
            self._lifecycle.apply(record)
            self._look_for_code()
        self._add_heap(drained.heap[done:])
        self._waiting.read_some(_STACKS_S)
        self._add_late_syscalls(late)
        calls, self._calls = self._calls, []
        for batch in calls:
            self._add_syscalls(batch)
        self._end_those_ending()
        self._reread_after_losses()
        if self._stacks is not None:
            self._stacks.batch_done(self.process_table)

    def _replaces_code(self, record: MappingRecord) -> bool:
        """Whether stacks from before lead through other code at the same addresses."""
        process = self.process_table.get(record.pid)
        return process is not None and process.space.has_other_code(mapping_of(record))

    def _look_for_code(self) -> None:
        """Amid what may take long: code that has been mapped meanwhile."""
        now = time.monotonic()
        if now >= self._next_look:
            self._load_tables(self._tracer.stream.look_ahead())
            self._next_look = now + _LOOK_S

    def _load_tables(self, control: Iterable[Control]) -> None:
        """Of code that has just been mapped, before all else: it runs already."""
        if self._stacks is None:
            return
        for record in control:
            if isinstance(record, MappingRecord) and self.process_table.get(record.pid) is not None:
                self._stacks.load(record.pid, [mapping_of(record)])

    def _lost_records(self) -> int:
        return self._tracer.stream.lost_control_records + self._lifecycle.missed_unmaps

    def _has_gaps(self) -> bool:
        """Whether control records have been lost among those that are being handed on."""
        return self._reread_at < math.inf or self._lost_records() > self._lost_control

    def _reread_after_losses(self) -> None:
        """Records that were lost may have told of execs and mappings."""
        lost, now = self._lost_records(), time.monotonic()
        if lost > self._lost_control:
            self._lost_control, self._reread_at = lost, min(self._reread_at, now + _REREAD_S)
        if now >= self._reread_at:
            self._reread_at = math.inf
            for process in self.process_table:
                self.tracees.reread(process)

    def _end_those_ending(self) -> None:
        ending, self._lifecycle.ending = self._lifecycle.ending, []
        if ending:
            self._waiting.read_before(max(process.ended_ns for process in ending) + 1)
        self.tracees.end(ending)

    @property
    def unknown_events(self) -> int:
        """Events that are in no report, because nothing is known of their process."""
        return self._unknown_events + sum(map(_not_our_own, self._unknown_calls))

    @property
    def is_behind(self) -> bool:
        """Whether stacks wait to be read."""
        return bool(self._waiting) or (self._stacks is not None and self._stacks.is_behind)

    def _add_syscalls_until(self, time_ns: int) -> None:
        """Those that ended before a pid went to another process."""
        calls, self._calls = self._calls, []
        for batch in calls:
            count = int(np.searchsorted(batch["time_ns"], np.uint64(time_ns)))
            self._add_syscalls(batch[:count])
            self._calls.append(batch[count:])

    def _add_syscalls(self, batch: Batch) -> None:
        for start in range(0, len(batch), CHUNK):
            self._add_some_syscalls(batch[start : start + CHUNK])

    def _add_some_syscalls(self, batch: Batch) -> None:
        slots = self.process_table.slots(batch["tgid"])
        if not slots.all():
            for pid in distinct_values(batch["tgid"][slots == 0]):
                self.tracees.discover(pid)
            slots = self.process_table.slots(batch["tgid"])
            self._unknown_calls.append(batch[slots == 0])
            batch, slots = batch[slots > 0], slots[slots > 0]
        self._account_syscalls(batch, slots)

    def _add_late_syscalls(self, late: list[Batch]) -> None:
        """Of processes that had ended before they could be looked at: their exits have come now.

        What is left are the last threads of processes whose end has been reported.
        """
        for batch in late:
            slots = self.process_table.slots(batch["tgid"])
            self._account_syscalls(batch[slots > 0], slots[slots > 0])
            self._unknown_events += _not_our_own(batch[slots == 0])

    def _account_syscalls(self, batch: Batch, slots: npt.NDArray[np.intp]) -> None:
        self.syscalls.add(batch, slots)
        if self.options.call_stacks:
            self.call_stacks.add(batch, slots)

    def _add_heap(self, batch: Batch) -> None:
        for pid, part in by_process(batch) if len(batch) else ():
            process = self.process_table.get(pid) or self.tracees.discover(pid)
            if process is None:
                self._unknown_events += _not_our_own(part)
            elif process.heap is not None and process.memory is not None:
                types = types_of(part)
                process.heap.add(part, types)
                process.memory.add(part, types)

    def _read_stack(self, data: bytes) -> None:
        self._look_for_code()
        raw = self._stacks.assembled(data) if self._stacks is not None else None
        if raw is None or self._stacks is None:
            return
        process = self.process_table.get(raw.pid) or self.tracees.discover(raw.pid)
        if process is not None:
            self._stacks.add(process, raw)

    def _ended(self, process: Process) -> None:
        self._on_exit(process)
        self.syscalls.drop(process.slot)
        self.call_stacks.drop(process.slot)

    def read_stacks(self, seconds: float, before_ns: float = math.inf) -> None:
        """All that have come from before a moment.

        Waits so long at most for tables that they lead through.
        """
        self._waiting.read_before(before_ns)
        if self._stacks is not None:
            self._stacks.finish(seconds)

    @property
    def has_unread_stacks(self) -> bool:
        return bool(self._waiting) or (self._stacks is not None and self._stacks.has_unfinished)

    @property
    def namer(self) -> SymbolizerThread | None:
        """Of stacks, if there are any."""
        return self._stacks.namer if self._stacks is not None else None

    def footprint(self) -> Footprint | None:
        return self._stacks.footprint() if self._stacks is not None else None

    def close(self) -> None:
        if self._stacks is not None:
            self._stacks.close()


def _not_our_own(batch: Batch) -> int:
    """How many of the events are not kwatch's own."""
    return int(np.count_nonzero(~np.isin(batch["tgid"], list(processes.OWN))))


def now_ns() -> int:
    """The clock of the events."""
    return time.monotonic_ns()
