# SPDX-License-Identifier: Apache-2.0
"""Applies control records: forks, execs, exits, renames, maps and unmaps of processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kwatch.kernel.syscall_work import return_probes_call
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.processes.process import Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import DELETED, Mapping
from kwatch.rings.perf_ring import Control, ControlRecord, MappingRecord, NameRecord
from kwatch.session.held_targets import HeldTargets
from kwatch.session.observer import CodeObserver
from kwatch.session.tracees import Tracees
from kwatch.targets import processes
from kwatch.wire import events
from kwatch.wire.events import EventType, ForkKind, event_type

_MAX_PENDING_EXECS = 1024
_NO_PATH = ("//", "[")  # //toolong, //enomem (perf_event_mmap_event()), [vdso]


@dataclass(slots=True)
class _PendingExec:
    """What an exec has mapped in a process that is not known yet; the program is mapped first."""

    space: AddressSpace = field(default_factory=AddressSpace)
    exe: str = ""


class Lifecycle:
    """Applies control records, in order, to the traced processes.

    `ending` holds processes that have ended, until their last events are applied. `on_reuse` is
    called with the time at which a pid was reused. `held`: the targets whose memory is held.
    While `has_gaps`, records may be missing.
    """

    def __init__(
        self,
        options: TraceOptions,
        tracees: Tracees,
        on_reuse: Callable[[int], None],
        held: HeldTargets,
    ) -> None:
        self.ending: list[Process] = []
        self.missed_unmaps = 0  # detected losses of records of unmapped code
        self.has_gaps = False
        self.code_observers: Sequence[CodeObserver] = ()
        self._options = options
        self._tracees = tracees
        self._process_table = tracees.process_table
        self._on_reuse = on_reuse
        self._held = held
        self._pending_execs: dict[int, _PendingExec] = {}
        self._handlers: dict[int, Callable[[bytes], None]] = {
            EventType.FORK: self._forked,
            EventType.EXEC: self._execed,
            EventType.EXIT: self._exited,
            EventType.CODE_UNMAPPED: self._code_unmapped,
            EventType.DISPATCH: self._dispatching,
            EventType.LAST_REGISTERS: held.note,
        }

    def apply(self, record: Control) -> None:
        if isinstance(record, ControlRecord):
            self._handlers[event_type(record.data)](record.data)
        elif isinstance(record, MappingRecord):
            self._mapping_seen(record)
        else:
            self._renamed(record)

    def foresee(self, control: Sequence[Control]) -> None:
        """Notes the exits of a batch before it is applied.

        A process may be known only by its events and its exit. If two processes in the batch have
        the same pid, the first one counts.
        """
        for record in reversed(control):
            if isinstance(record, ControlRecord) and event_type(record.data) == EventType.EXIT:
                found = _facts_at_exit(record.data)
                self._tracees.exits[found.pid] = found
        self._hold_early(control)

    def _hold_early(self, control: Sequence[Control]) -> None:
        """Holds new programs before the batch is applied: they may end soon."""
        ended = set()
        for record in control:
            if not isinstance(record, ControlRecord):
                continue
            if event_type(record.data) == EventType.EXIT:
                ended.add(_facts_at_exit(record.data).pid)
            elif event_type(record.data) == EventType.EXEC:
                self._hold_execed(record.data, ended)
            elif event_type(record.data) == EventType.FORK:
                self._hold_forked(record.data, ended)

    def _hold_execed(self, data: bytes, but_not: Container[int] = ()) -> None:
        record = np.frombuffer(data, events.EXEC, 1)[0]
        pid = int(record["tgid"])
        if pid not in but_not and record["matched"]:  # or an exit is applied first
            self._held.execed(pid, int(record["time_ns"]))

    def _hold_forked(self, data: bytes, but_not: Container[int] = ()) -> None:
        record = np.frombuffer(data, events.FORK, 1)[0]
        child, kind = int(record["child"]), record["child_kind"]
        if child not in but_not and kind != ForkKind.UNTRACED:
            shares = bool(kind == ForkKind.SHARES)
            self._held.forked(int(record["tgid"]), child, int(record["time_ns"]), shares)

    def concerns(self, record: Control) -> bool:
        """Whether the record is about a known process, or may make a process known.

        Without heap and stacks, mapping records that no observer sees can wait for the next other
        record.
        """
        if isinstance(record, ControlRecord):
            return True
        is_wanted = self._options.mappings or self._options.code
        return is_wanted and self._process_table.get(record.pid) is not None

    def _running(self, pid: int) -> Process | None:
        """The known process with this pid, if no exit has been recorded."""
        process = self._process_table.get(pid)
        return None if process is None or process.facts.exited else process

    def _predates(self, pid: int, time_ns: int) -> bool:
        """Whether a record is older than the state that kwatch read when it attached."""
        process = self._process_table.get(pid)
        return process is not None and time_ns < process.attached_ns

    def _end_previous(self, pid: int, time_ns: int) -> None:
        """Ends the process whose pid was reused, even if its exit was lost."""
        previous = self._process_table.get(pid)
        if previous is not None:
            self._on_reuse(time_ns)
            known = previous.exec_state.before_exec or previous.facts
            previous.facts = replace(known, exited=True)
            previous.ended_ns = previous.ended_ns or time_ns
            self._tracees.end([previous])

    def _known_before_its_fork(self, pid: int, started: float) -> Process | None:
        """A child whose stack was read early is known before its fork record is applied."""
        child = self._running(pid)
        if child is None or child.forked_ns:
            return None
        return child if processes.same_start(child.facts.start_time, started) else None

    def _forked(self, data: bytes) -> None:
        record = np.frombuffer(data, events.FORK, 1)[0]
        parent = self._process_table.get(int(record["tgid"]))
        pid, time_ns = int(record["child"]), int(record["time_ns"])
        if record["child_kind"] == ForkKind.UNTRACED:
            self._tracees.left_child(parent)
            return
        if self._predates(pid, time_ns):
            return
        started = processes.start_time(int(record["child_start_ns"]))
        child = self._known_before_its_fork(pid, started)
        if child is None:
            self._end_previous(pid, time_ns)
            exe = parent.facts.exe if parent else processes.exe_of(pid)
            child = self._tracees.register(ProcessFacts(pid, started, _comm(record), exe))
        child.parent = int(record["tgid"])
        if parent is not None:
            owner = self._tracees.owner_of_heap(parent)
            child.inherit(owner, time_ns)
            if record["child_kind"] == ForkKind.SHARES:
                child.share(owner.pid, time_ns)
        child.code.mm_id = int(record["mm_id"])
        for observer in self.code_observers:
            observer.on_fork(child, time_ns)
        self._hold_forked(data)
        self._tracees.joined(child)

    def _execed(self, data: bytes) -> None:
        record = np.frombuffer(data, events.EXEC, 1)[0]
        pid, time_ns, comm = int(record["tgid"]), int(record["time_ns"]), _comm(record)
        pending = self._pending_execs.pop(pid, None) or _PendingExec()
        if self._predates(pid, time_ns):
            return
        started = processes.start_time(int(record["start_ns"]))
        process = self._running(pid)
        if process is None or not processes.same_start(process.facts.start_time, started):
            self._end_previous(pid, time_ns)
            process = None
        if not record["matched"]:
            if process is None:
                self._held.forget(pid)
            else:
                self._tracees.replaced(process)
                process.ended_ns = time_ns
                self.ending.append(process)
            return
        if process is None:
            process = self._tracees.register(ProcessFacts(pid, started, comm, pending.exe))
            process.code.space, process.code.mm_id = pending.space, int(record["mm_id"])
            for number, mapping in enumerate(pending.space):
                self._show_code(process, mapping, time_ns, number == 0)
            if self._options.holds_memory and self._options.scan_at_exit:
                self._held.take(pid)
            self._tracees.joined(process)
        else:
            pending.exe = process.facts.exe if process.exec_state.before_exec is not None else ""
            process.code.mm_id = int(record["mm_id"])
            process.exec_state.end()
            self._hold_execed(data)
            self._held.forget_threads(pid)
            self._tracees.execed(process, int(record["old_tid"]))
        process.facts = replace(process.facts, comm=comm, exe=_exe_after(pid, comm, pending.exe))

    def _exited(self, data: bytes) -> None:
        found = _facts_at_exit(data)
        record = np.frombuffer(data, events.EXIT, 1)[0]
        time_ns = int(record["time_ns"])
        self._pending_execs.pop(found.pid, None)
        self._tracees.exits.pop(found.pid, None)
        if self._predates(found.pid, time_ns):
            return
        process = self._process_table.get(found.pid)
        if process is None or not processes.same_start(process.facts.start_time, found.start_time):
            self._end_previous(found.pid, time_ns)
            process = self._tracees.register_ended(found)
        elif self.has_gaps and process.facts.comm != found.comm:  # its exec may have been lost
            process.facts = replace(process.facts, comm=found.comm, exe="")
        elif not self._options.names_programs:  # no record said that it was renamed
            process.facts = replace(process.facts, comm=found.comm)
        process.facts = replace(process.facts, exited=True, killed_by=found.killed_by)
        process.ended_ns, process.ended_threads = time_ns, int(record["ended_threads"])
        self.ending.append(process)

    def _code_unmapped(self, data: bytes) -> None:
        record = np.frombuffer(data, events.CODE_UNMAPPED, 1)[0]
        process = self._process_table.get(int(record["tgid"]))
        if process is None or record["time_ns"] < process.code.reread_ns:
            return
        start, unmaps = int(record["start"]), int(record["unmaps"])
        if unmaps == process.code.unmaps + 1:
            process.code.unmaps = unmaps
        elif unmaps > process.code.unmaps:  # until it matches, the programs use none of its tables
            self.missed_unmaps += 1
        self._tracees.unmapped(process, start, start + int(record["size"]))

    def _dispatching(self, data: bytes) -> None:
        record = np.frombuffer(data, events.CONTROL, 1)[0]
        process = self._running(int(record["tgid"]))
        if process is not None and return_probes_call():
            self._tracees.dispatching(process)

    def _mapping_seen(self, record: MappingRecord) -> None:
        process = self._running(record.pid)
        if self._predates(record.pid, record.time_ns):
            return
        mapping = mapping_of(record)
        if process is not None:
            self._show_code(process, mapping, record.time_ns, process.exec_state.awaits_program)
            if process.exec_state.awaits_program:
                process.exec_state.awaits_program = False
                process.facts = replace(process.facts, exe=self._program(mapping))
            if self._options.mappings and record.time_ns >= process.code.reread_ns:
                process.coverage.mapped_at(record.time_ns)
                self._tracees.mapped(process, [mapping])
        elif record.pid in self._pending_execs:
            pending = self._pending_execs[record.pid]
            if not len(pending.space):
                pending.exe = self._program(mapping)
            pending.space.add(mapping)

    def _show_code(self, process: Process, mapping: Mapping, time_ns: int, is_first: bool) -> None:
        for observer in self.code_observers:
            observer.on_code(process, mapping, time_ns, is_first)

    def _program(self, first: Mapping) -> str:
        """The program of an exec, which is mapped first; empty if that is uncertain."""
        return "" if self.has_gaps or first.path.startswith(_NO_PATH) else first.path

    def _renamed(self, record: NameRecord) -> None:
        process = self._running(record.pid)
        if self._predates(record.pid, record.time_ns):
            return
        if process is None:
            if record.is_exec and self._options.comms:
                self._pending_execs[record.pid] = _PendingExec()
            if len(self._pending_execs) > _MAX_PENDING_EXECS:
                del self._pending_execs[next(iter(self._pending_execs))]
            return
        if record.is_exec:
            process.code.begin_exec()
            process.coverage.forget_program()
            process.exec_state.begin(process.facts)
            process.facts = replace(process.facts, exe="")
        if record.tid == record.pid:
            process.facts = replace(process.facts, comm=record.comm)


def _facts_at_exit(data: bytes) -> ProcessFacts:
    record = np.frombuffer(data, events.EXIT, 1)[0]
    started = processes.start_time(int(record["start_ns"]))
    killed_by = _signal_name(os.WTERMSIG(int(record["status"])))
    return ProcessFacts(int(record["tgid"]), started, _comm(record), "", killed_by=killed_by)


def _signal_name(number: int) -> str:
    """Empty for 0; a real-time signal has only a number."""
    if not number:
        return ""
    known = {one.value: one.name for one in signal.Signals}
    return known.get(number, f"signal {number}")


def _exe_after(pid: int, comm: str, mapped: str) -> str:
    """The program of a process after an exec; empty if it is unknown.

    Taken from /proc, or, if another exec may have followed, from the first mapping of this one.
    """
    now = processes.exe_of(pid)
    return now or mapped if processes.comm_of(pid) == comm else mapped or now


def _comm(record: np.void) -> str:
    return os.fsdecode(bytes(record["comm"]))


def mapping_of(record: MappingRecord) -> Mapping:
    """The mapping that a record describes."""
    return Mapping(
        start=record.start,
        end=record.end,
        offset=record.offset,
        path=record.path.removesuffix(DELETED),
        inode=record.inode,
        device=os.makedev(*record.device),
        executable=True,
    )
