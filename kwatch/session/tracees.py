# SPDX-License-Identifier: Apache-2.0
"""The traced processes: how they join, what of theirs is hooked and known, how they leave."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kwatch.errors import KwatchError
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.model.options import WatchOptions
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage, HeapProbes, MappedFile
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.procfs.mappings import Mapping, file_of, read_mappings
from kwatch.session.tracer import Tracer
from kwatch.stacks.reader import StackReader
from kwatch.targets import processes
from kwatch.wire.maps import TargetFlag


class Tracees:
    """`on_end` is called with each process that leaves, while it is still known.

    `announce`, which may be replaced, is called with a line for people when something more has
    been attached. `exits`: who ends in the batch that is being handed on, by pid, and is said to
    have ended by none of its control records so far.
    """

    def __init__(
        self,
        options: WatchOptions,
        tracer: Tracer,
        stacks: StackReader | None,
        on_end: Callable[[Process], None],
    ) -> None:
        self.process_table = ProcessTable(by_stack=options.profiles.wanted)
        self.system = Coverage(EVERY_PROCESS)
        self.unreadable: set[int] = set()
        self.exits: dict[int, ProcessFacts] = {}
        self.announce: Callable[[str], None] = lambda line: None
        self._missing: list[tuple[Process, int]] = []  # and when that was first seen
        self._options = options
        self._tracer = tracer
        self._stacks = stacks
        self._on_end = on_end
        self._probes = HeapProbes(tracer.attacher, options.alloc_prefixes)

    def attach(self, facts: ProcessFacts, by_comm: bool = False, late: bool = False) -> None:
        """Makes a running process a target and probes its allocators. `late`: see Coverage.

        Raises KwatchError for one that the user named by its pid and that has ended.
        """
        flags = TargetFlag.INHERIT if self._options.follow or by_comm else 0
        if by_comm and not self._options.follow:
            flags |= TargetFlag.BY_COMM
        process = self.register(facts)
        process.coverage.late = late
        if self._stacks is not None:  # while no event has a stack yet
            self._stacks.load(facts.pid, _code(self._mappings(facts.pid)))
        self._make_target(process, flags)
        found = processes.now(facts) if by_comm else processes.require_still(facts)
        if found is not None and (not by_comm or self._is_named(found.pid)):
            process.facts = found  # it may have exec'ed since the first look
            self._joined(process, read_mappings if not by_comm else self._mappings)
        elif self._tracer.remove_target(process.pid, process.mm_id):
            process.facts = replace(process.facts, exited=True)
            self._end(process)  # else the control ring has its end

    def _make_target(self, process: Process, flags: int) -> None:
        process.attached_ns = time.monotonic_ns()
        target = self._tracer.add_target(process.pid, flags)
        process.mm_id, process.unmaps = target.mm_id, target.unmaps

    def attach_launched(self, facts: ProcessFacts, files: list[str]) -> Process:
        """Makes a command a target before its exec; `files` are those that it will map."""
        flags = TargetFlag.WAITING | (TargetFlag.INHERIT if self._options.follow else 0)
        process = self.register(facts)
        self._make_target(process, flags)
        self._probe(process.coverage, map(_file_to_come, files))
        if self._stacks is not None:
            self._stacks.prepare(files)
        return process

    def attach_system(self) -> None:
        """Probes, for every process, the allocators that some process has mapped."""
        for pid in processes.all_pids():
            self._probe(self.system, _files_of(pid, self._mappings(pid)))
        self.system.late = True  # what else there is has run by the time it is found

    def attach_named(self, pid: int, late: bool = False) -> None:
        """Makes a process a target if its name matches now, and if it is none."""
        if pid == os.getpid() or pid in processes.OWN or self._tracer.is_target(pid):
            return
        found = processes.facts(pid)
        if found is None or not self._is_named(pid):
            return
        known = self.process_table.get(pid)
        if known is not None and processes.same_start(known.facts.start_time, found.start_time):
            self.replaced(known)  # the record of it is on its way
        self.attach(found, by_comm=True, late=late)

    def _is_named(self, pid: int) -> bool:
        return processes.name_matches(pid, self._options.comms)

    def discover(self, pid: int) -> Process | None:
        """A target whose events come before anything else is known of it; None if it is gone.

        What kwatch's own processes did before they were known as such is not reported.
        """
        if pid in self.exits:
            return self.register_ended(self.exits[pid])
        mm_id = self._tracer.mm_id(pid)  # before the mappings: those of a later image do no harm
        found = processes.facts(pid) if mm_id and pid not in processes.OWN else None
        if found is None:
            return None
        process = self.register(found)
        process.mm_id = mm_id
        if self._options.mappings:
            self.mapped(process, self._mappings(pid))
        return process

    def register(self, facts: ProcessFacts) -> Process:
        """A process that is known from now on; a former one of its pid has ended."""
        previous = self.process_table.get(facts.pid)
        if previous is not None:
            previous.facts = replace(previous.facts, exited=True)
            self._end(previous)
        return self.process_table.add(facts, self._options.heap)

    def register_ended(self, facts: ProcessFacts) -> Process:
        """A target of which nothing is known but its exit."""
        process = self.register(facts)
        process.coverage.ended_first = True
        return process

    def joined(self, process: Process) -> None:
        """A registered process runs as a target: a child, or one under its new name."""
        process.coverage.mapped_at(process.forked_ns)
        self._joined(process, self._mappings)

    def _joined(self, process: Process, mappings_of: Callable[[int], list[Mapping]]) -> None:
        if not self._options.heap:
            self.announce(_named(process))
        if not self._options.mappings:
            return
        mappings = mappings_of(process.pid)
        process.coverage.ended_first = not mappings and not self._options.system_wide
        for mapping in mappings:
            if mapping.path == "[heap]" and process.memory is not None:
                process.memory.start(mapping.end)
        code = _code(mappings)
        self._note(process, code)
        if self._stacks is not None:
            self._stacks.publish()  # before the heap has events
        self._hook(process, code)

    def mapped(self, process: Process, mappings: list[Mapping]) -> None:
        """Takes note of mappings, and probes the allocators among them."""
        code = _code(mappings)
        self._note(process, code)
        self._hook(process, code)

    def _note(self, process: Process, code: list[Mapping]) -> None:
        covered = [process.space.add(mapping) for mapping in code]
        process.epoch += any(covered)
        if self._stacks is not None:
            self._stacks.mapped(process, code)

    def _hook(self, process: Process, code: list[Mapping]) -> None:
        files = _files_of(process.pid, code)
        for hooked in self._probe(self.coverage(process), files, process.coverage):
            self.announce(f"{_named(process)}; heap: {hooked}")

    def unmapped(self, process: Process, start: int, end: int) -> None:
        """Something was unmapped, or mapped over, where code lay."""
        process.space.remove(start, end)
        process.epoch += 1
        self._update_tables(process)

    def reread(self, process: Process) -> None:
        """Some of what it has exec'ed, mapped or unmapped went unseen: what it is now."""
        process.facts = processes.now(process.facts) or process.facts
        if not self._options.mappings:
            return
        process.reread_ns = time.monotonic_ns()
        target = self._tracer.target(process.pid)  # before the mappings, as in `discover`
        code = _code(self._mappings(process.pid))
        if target is None or not code:
            return  # it has ended; what is known of it will do for its last stacks
        process.epoch += max(target.unmaps - process.unmaps, 0) + 1
        process.mm_id, process.unmaps = target.mm_id, target.unmaps
        process.space.clear()
        process.coverage.late = True
        self.mapped(process, code)

    def new_image(self, process: Process, old_tid: int) -> None:
        """A known process has exec'ed; `old_tid` made the call."""
        process.forget_heap()
        self._update_tables(process)
        if self._options.heap and old_tid != process.pid:
            # The probes were bound to the thread that led the process, and which is gone.
            self._tracer.attacher.detach(process.pid)
            process.coverage = Coverage(process.pid, late=True)
            self.mapped(process, self._mappings(process.pid))

    def replaced(self, process: Process) -> None:
        """An exec makes a program of a target that is none: it is to be reported as it was."""
        process.replaced = True
        process.forget_heap()
        process.facts = replace(process.before_exec or process.facts, exited=True)

    def coverage(self, process: Process) -> Coverage:
        """What of the process's heap is seen."""
        return self.system if self._options.system_wide else process.coverage

    def gap(self, process: Process) -> str:
        """Why some of the process's heap may not have been seen; empty if all was."""
        if process.replaced:
            return "another program has taken its place by an exec, and its memory with it"
        if process.has_32_bits:
            return heap_of_32_bits(self._options.syscalls)
        if process.pid in self.unreadable:
            return "its mappings may not be read, so an allocator that it alone has is not hooked"
        if process.coverage.ended_first and processes.now(process.facts) is not None:
            return "its main thread has ended, and kwatch finds allocators by that"
        return process.coverage.own_gap or self.coverage(process).nothing_found

    def untraced_children(self) -> list[ProcessFacts]:
        """Processes that targets had started before they became targets."""
        found = processes.descendants({process.pid for process in self.process_table})
        left = [pid for pid in found if not self._tracer.is_target(pid)]
        return [child for child in map(processes.facts, left) if child is not None]

    @property
    def unmatched_prefixes(self) -> list[str]:
        """The --alloc-prefix that have matched nothing so far."""
        return self._probes.unmatched if self._options.heap else []

    def gone(self, delivered_ns: int) -> list[Process]:
        """Processes that were missing before what has been handed on: their exit was lost."""
        since = {id(process): seen_ns for process, seen_ns in self._missing}
        missing = [
            process for process in self.process_table if processes.now(process.facts) is None
        ]
        now = time.monotonic_ns()
        self._missing = [(process, since.get(id(process), now)) for process in missing]
        return [process for process, seen_ns in self._missing if seen_ns < delivered_ns]

    def end_gone(self, gone: list[Process]) -> None:
        """Ends those whose exit was not seen."""
        for process in gone:
            process.facts = replace(process.facts, exited=True)
        self.end(gone)

    def end(self, ending: list[Process]) -> None:
        for process in ending:
            if self.process_table.get(process.pid) is process:
                self._end(process)

    def _end(self, process: Process) -> None:
        """The process has ended, or it is a target no more."""
        self._on_end(process)
        self._tracer.remove_target(process.pid, process.mm_id)
        self._tracer.attacher.detach(process.pid)
        self._tracer.forget_losses(process.pid)
        self.unreadable.discard(process.pid)
        if self._stacks is not None:
            self._stacks.forget(process)
        self.process_table.remove(process)

    def _mappings(self, pid: int) -> list[Mapping]:
        """Those of a process that the user did not name: it may be one that may not be read."""
        try:
            return read_mappings(pid)
        except KwatchError:
            self.unreadable.add(pid)
            return []

    def _update_tables(self, process: Process) -> None:
        if self._stacks is not None:
            self._stacks.update_tables(process)

    def _probe(
        self, coverage: Coverage, files: Iterable[MappedFile], own: Coverage | None = None
    ) -> list[str]:
        return self._probes.probe(coverage, files, own) if self._options.heap else []


def heap_of_32_bits(syscalls: bool, many: bool = False) -> str:
    """For people: what is traced of 32-bit programs. `syscalls`: their calls are."""
    programs, their = ("32-bit programs", "their") if many else ("32-bit program", "its")
    calls = f"{their} system calls are traced, " if syscalls else ""
    return f"{programs}: {calls}{their} heap is not{'' if syscalls else ' traced'}"


def _code(mappings: Iterable[Mapping]) -> list[Mapping]:
    return [mapping for mapping in mappings if mapping.executable]


def _files_of(pid: int, mappings: Iterable[Mapping]) -> Iterator[MappedFile]:
    """The files whose code is mapped, as far as they can be opened."""
    for mapping in mappings:
        if mapping.executable and mapping.inode and (path := file_of(pid, mapping)):
            yield MappedFile((mapping.device, mapping.inode), path, mapping.path)


def _file_to_come(path: str) -> MappedFile:
    """A file that is not mapped yet."""
    status = os.stat(path)
    return MappedFile((status.st_dev, status.st_ino), path, path)


def _named(process: Process) -> str:
    return f"attached to {process.facts.comm}[{process.pid}]"
