# SPDX-License-Identifier: Apache-2.0
"""The traced processes: how they join and leave, what is probed in them, what is known of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kwatch.errors import KwatchError
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.model.options import Returns, TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.probes import hazards
from kwatch.probes.coverage import DISPATCHING, Coverage, Hazards, HeapProbes, MappedFile
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.procfs.mappings import Mapping, file_of, read_mappings, served_file
from kwatch.session.notices import Notices
from kwatch.session.tracer import Tracer
from kwatch.session.usage_watch import UsageWatch
from kwatch.stacks.reader import StackReader
from kwatch.targets import processes
from kwatch.wire.maps import TargetFlag


class Tracees:
    """`on_end` is called with each process that leaves, while it is still in the process table.

    `exits`: by pid, the processes whose exit records are in the current batch and are not applied
    yet. `dispatchers`: processes that used Syscall User Dispatch before every process was traced.
    """

    def __init__(
        self,
        options: TraceOptions,
        tracer: Tracer,
        stacks: StackReader | None,
        notices: Notices,
        on_end: Callable[[Process], None],
    ) -> None:
        self.process_table = ProcessTable()
        self.usage = UsageWatch(self.process_table, options.system_wide)
        self.system = Coverage(EVERY_PROCESS)
        self.unreadable: set[int] = set()
        self.exits: dict[int, ProcessFacts] = {}
        self.dispatchers: set[int] = set()
        self._missing: list[tuple[Process, int]] = []  # and when each was first missed
        self._has_left_child = False
        self._options = options
        self._tracer = tracer
        self._stacks = stacks
        self._notices = notices
        self._on_end = on_end
        self._probes = HeapProbes(
            tracer.attacher,
            options.alloc_prefixes,
            options.returns,
            Hazards(hazards.breakpoint_hazard, hazards.return_hazard),
            options.checks,
        )

    def make_target(self, process: Process, flags: int) -> None:
        """Makes the BPF programs trace the process."""
        process.attached_ns = time.monotonic_ns()
        target = self._tracer.targets.add(process.pid, flags)
        process.code.mm_id, process.code.unmaps = target.mm_id, target.unmaps
        if self._options.syscalls and not flags & TargetFlag.WAITING:
            self._tracer.slots.note_threads(process.pid)

    def discover(self, pid: int) -> Process | None:
        """Registers a target whose events arrive before any record of it; None if it is gone.

        Events of kwatch's own processes from before they were excluded are not reported.
        """
        if pid in self.exits:
            return self.register_ended(self.exits[pid])
        # Before the mappings, which may safely be those of a later image.
        mm_id = self._tracer.targets.mm_id(pid)
        found = processes.facts(pid) if mm_id and pid not in self._tracer.targets.own else None
        if found is None:
            return None
        process = self.register(found)
        process.code.mm_id = mm_id
        if self._options.heap:
            self.usage.joined(process)
        if owner := self._tracer.targets.owner(pid):
            process.share(owner, 0)
        if self._options.mappings:
            self.mapped(process, self.mappings(pid))
        return process

    def register(self, facts: ProcessFacts) -> Process:
        """Adds a process to the table; an earlier process with its pid has ended."""
        previous = self.process_table.get(facts.pid)
        if previous is not None:
            previous.facts = replace(previous.facts, exited=True)
            self._end(previous)
        return self.process_table.add(facts, Accounts.wanted(self._options))

    def register_ended(self, facts: ProcessFacts) -> Process:
        """Adds a target whose exit record is all that is known of it."""
        process = self.register(facts)
        process.coverage.ended_first = True
        return process

    def joined(self, process: Process) -> None:
        """A registered process now runs as a target: a child, or a process with a new name."""
        process.coverage.mapped_at(process.forked_ns)
        self.join(process, self.mappings)

    def join(self, process: Process, mappings_of: Callable[[int], list[Mapping]]) -> None:
        if self._options.heap:
            self.usage.joined(process)
        else:
            self._notices.announce(_named(process))
        if not self._options.mappings:
            return
        mappings = mappings_of(process.pid)
        process.coverage.ended_first = not mappings and not self._options.system_wide
        for mapping in mappings:
            if mapping.path == "[heap]" and process.memory is not None:
                process.memory.start(mapping.end)
        process.coverage.copied |= set(hazards.copied_code(mappings))
        code = code_of(mappings)
        self._add_code(process, code)
        if self._stacks is not None:
            self._stacks.publish()  # before the first heap events
        if not process.shares:  # the owner's probes are in the same memory
            self._probe_allocators(process, code)

    def mapped(self, process: Process, mappings: list[Mapping]) -> None:
        """Adds mappings to a process and probes the allocators among them."""
        code = code_of(mappings)
        self._add_code(process, code)
        owner = self.owner_of_heap(process)
        if owner is not process:
            self._add_code(owner, code)
        if owner is not process or not process.shares:
            self._probe_allocators(owner, code)

    def owner_of_heap(self, process: Process) -> Process:
        """The process whose memory it shares, if that is known; otherwise the process itself."""
        return self.process_table.get(process.shares) or process

    def _add_code(self, process: Process, code: list[Mapping]) -> None:
        process.code.map(code)
        if self._stacks is not None:
            self._stacks.mapped(process, code)

    def _probe_allocators(self, process: Process, code: list[Mapping]) -> None:
        files = files_of(process.pid, code)
        for probed in self.probe(self.coverage(process), files, process.coverage):
            self._notices.announce(f"{_named(process)}; heap: {probed}")

    def unmapped(self, process: Process, start: int, end: int) -> None:
        """A range that held code was unmapped or mapped over."""
        process.code.unmap(start, end)
        self._update_tables(process)
        self._look_for_copies(process)

    def _look_for_copies(self, process: Process) -> None:
        """Where code of a file was, the process may now have a copy of it in other memory."""
        if not self._options.heap:
            return
        new = set(hazards.copied_code(self.mappings(process.pid))) - process.coverage.copied
        process.coverage.copied |= new
        for path in sorted(new):
            self._notices.warn(
                f"{process.facts.comm}[{process.pid}] runs a copy of code of {path}: kwatch's "
                "breakpoints may be in it, and would end the program even after kwatch"
            )

    def reread(self, process: Process) -> None:
        """Reads a process again, after records of its execs, maps or unmaps may have been lost."""
        process.facts = processes.now(process.facts) or process.facts
        if not self._options.mappings:
            return
        process.code.reread_ns = time.monotonic_ns()
        target = self._tracer.targets.get(process.pid)  # before the mappings, as in `discover`
        code = code_of(self.mappings(process.pid))
        if target is None or not code:
            return  # it has ended; the known mappings serve its last stacks
        process.code.restart(target.mm_id, target.unmaps)
        process.coverage.late = True
        self.mapped(process, code)

    def execed(self, process: Process, old_tid: int) -> None:
        """A known process has exec'ed; `old_tid` is the thread that called exec."""
        process.forget_heap()
        if process.shares:
            process.unshare(Accounts.wanted(self._options))
        self._update_tables(process)
        if self._options.heap and old_tid != process.pid:
            # The probes were bound to the former main thread, which is gone.
            self._tracer.attacher.detach(process.pid)
            process.coverage = Coverage(process.pid, late=True)
            self.mapped(process, self.mappings(process.pid))
        if self._options.heap:
            self.usage.joined(process)
        self._leave_translated(process)

    def _leave_translated(self, process: Process) -> None:
        """Probes survive an exec; the new program may be one that they would end."""
        why = hazards.breakpoint_hazard(process.pid, ()) if self._options.heap else ""
        if why:
            self.abandon_heap(process, why)

    def abandon_heap(self, process: Process, why: str) -> None:
        """Removes the heap probes that would harm the process, once."""
        coverage = self.coverage(process)
        if coverage.unsafe or not self._options.heap:
            return
        self._tracer.attacher.detach(coverage.pid)
        who = f"{process.facts.comm}[{process.pid}]"
        if self._options.system_wide:
            why = f"{who} appeared, and {why}"
        if why != coverage.told:
            self._notices.warn(f"the heap of {who} is no longer traced: {why}")
        coverage.abandon(why)

    def dispatching(self, process: Process) -> None:
        """A thread of the process has asked for Syscall User Dispatch, perhaps in vain."""
        returns = self.coverage(process).returns or self._options.returns
        if returns is Returns.RET or process.coverage.dispatches or not self._options.heap:
            return
        if not self._tracer.attacher.spares_returns:
            self.abandon_heap(process, hazards.DISPATCHES)
            return
        process.coverage.dispatches = True
        who = f"{process.facts.comm}[{process.pid}]"
        self._notices.warn(f"{who}: {DISPATCHING}")

    def replaced(self, process: Process) -> None:
        """An exec turned a target into a program that is not traced: report its old state."""
        process.exec_state.replaced = True
        process.forget_heap()
        process.facts = replace(process.exec_state.before_exec or process.facts, exited=True)

    def coverage(self, process: Process) -> Coverage:
        """The coverage of the process's heap."""
        return self.system if self._options.system_wide else process.coverage

    def gap(self, process: Process) -> str:
        """Why kwatch may have missed some of the process's heap; empty if it missed nothing."""
        if process.exec_state.replaced:
            return "an exec replaced its program and its memory, and the new program is not traced"
        if self._options.heap and process.facts.killed_by in hazards.DEATHS:
            killed_by = process.facts.killed_by
            return f"{killed_by} ended it, and a probe can be why: {hazards.DEATHS[killed_by]}"
        if process.has_32_bits:
            return heap_of_32_bits(self._options.syscalls)
        if process.pid in self.unreadable:
            return "its mappings cannot be read, so an allocator that only it uses is not probed"
        if process.coverage.ended_first and processes.now(process.facts) is not None:
            return "its main thread has ended, so kwatch could not look for its allocators"
        whole = self.coverage(process)
        if whole.unsafe:
            return whole.own_gap
        if process.pid in self.dispatchers:
            return DISPATCHING
        return process.coverage.own_gap

    def untraced(self, process: Process) -> str:
        """Why nothing of the process's heap is traced; empty if some of it is."""
        return self.coverage(process).nothing_found

    def ended_threads(self, process: Process) -> int:
        """How many threads of the process have ended before it, since it became a target."""
        target = None if process.facts.exited else self._tracer.targets.get(process.pid)
        if target is not None:
            return int(target.ended_threads)
        return max(process.ended_threads - 1, 0)  # the last one ends with the process

    def untraced_children(self) -> list[ProcessFacts]:
        """Children that targets had forked before they became targets."""
        found = processes.descendants({process.pid for process in self.process_table})
        left = [pid for pid in found if pid not in self._tracer.targets]
        return [child for child in map(processes.facts, left) if child is not None]

    def left_child(self, parent: Process | None) -> None:
        """A target has forked a child that is not traced; this is said once."""
        if parent is not None and not self._has_left_child:
            self._has_left_child = True
            self._notices.announce(self._tracer.attacher.left_child_line(_name(parent)))

    @property
    def unmatched_prefixes(self) -> list[str]:
        """The --alloc-prefix values that have matched nothing so far."""
        return self._probes.unmatched if self._options.heap else []

    def uncalled(self, process: Process) -> list[tuple[str, int]]:
        """The files whose probed functions the process has not called, and how many they are."""
        return self._probes.uncalled(process.coverage)

    def gone(self, delivered_ns: int) -> list[Process]:
        """Processes whose exit was lost: already missing before the last delivered event."""
        since = {id(process): seen_ns for process, seen_ns in self._missing}
        missing = [
            process for process in self.process_table if processes.now(process.facts) is None
        ]
        now = time.monotonic_ns()
        self._missing = [(process, since.get(id(process), now)) for process in missing]
        return [process for process, seen_ns in self._missing if seen_ns < delivered_ns]

    def end_gone(self, gone: list[Process]) -> None:
        """Ends processes whose exit was lost."""
        for process in gone:
            process.facts = replace(process.facts, exited=True)
        self.end(gone)

    def end(self, ending: list[Process]) -> None:
        for process in ending:
            if self.process_table.get(process.pid) is process:
                self._end(process)

    def _end(self, process: Process) -> None:
        """The process has ended, or it is no longer a target."""
        self._on_end(process)
        self._explain(process)
        self._tracer.targets.remove(process.pid, process.code.mm_id)
        self._tracer.attacher.detach(process.pid)
        self._tracer.losses.forget(process.pid)
        self.unreadable.discard(process.pid)
        self.dispatchers.discard(process.pid)
        if self._stacks is not None:
            self._stacks.forget(process)
        self.process_table.remove(process)

    def _explain(self, process: Process) -> None:
        """Says at the death of a process whether its probes can be why."""
        why = hazards.DEATHS.get(process.facts.killed_by) if self._options.heap else None
        if why:
            who = f"{process.facts.comm}[{process.pid}]"
            killed_by = process.facts.killed_by
            self._notices.warn(f"{killed_by} ended {who}, and a probe can be why: {why}")

    def mappings(self, pid: int) -> list[Mapping]:
        """The mappings of a process that the user did not select: reading them may be denied."""
        try:
            return read_mappings(pid)
        except KwatchError:
            self.unreadable.add(pid)
            return []

    def _update_tables(self, process: Process) -> None:
        if self._stacks is not None:
            self._stacks.update_tables(process)

    def probe(
        self, coverage: Coverage, files: Iterable[MappedFile], own: Coverage | None = None
    ) -> list[str]:
        return self._probes.probe(coverage, files, own) if self._options.heap else []


def heap_of_32_bits(syscalls: bool, many: bool = False) -> str:
    """A message: what is traced of 32-bit programs. `syscalls`: whether their calls are."""
    programs, their = ("32-bit programs", "their") if many else ("32-bit program", "its")
    calls = f"{their} system calls are traced, " if syscalls else ""
    return f"{programs}: {calls}{their} heap is not{'' if syscalls else ' traced'}"


def code_of(mappings: Iterable[Mapping]) -> list[Mapping]:
    return [mapping for mapping in mappings if mapping.executable]


def files_of(pid: int, mappings: Iterable[Mapping]) -> Iterator[MappedFile]:
    """The files whose code is mapped, if they can be opened."""
    for mapping in mappings:
        if not (mapping.executable and mapping.inode):
            continue
        key = mapping.device, mapping.inode
        served = served_file(pid, mapping)
        if served is not None:
            path, refused = served.copy()
            yield MappedFile(key, path, mapping.path, served, refused)
        elif path := file_of(pid, mapping):
            yield MappedFile(key, path, mapping.path)


def _named(process: Process) -> str:
    return f"attached to {_name(process)}"


def _name(process: Process) -> str:
    return f"{process.facts.comm}[{process.pid}]"
