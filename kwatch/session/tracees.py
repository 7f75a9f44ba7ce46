# SPDX-License-Identifier: Apache-2.0
"""The traced processes: how they join, what of theirs is hooked and known, how they leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kwatch.errors import KwatchError
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage, HeapProbes, MappedFile
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.procfs.mappings import Mapping, file_of, read_mappings
from kwatch.session.notices import Notices
from kwatch.session.tracer import Tracer
from kwatch.stacks.reader import StackReader
from kwatch.targets import processes


class Tracees:
    """`on_end` is called with each process that leaves, while it is still known.

    `exits`: by pid, the processes that end in the current batch and whose control records so far
    do not say so.
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
        self.system = Coverage(EVERY_PROCESS)
        self.unreadable: set[int] = set()
        self.exits: dict[int, ProcessFacts] = {}
        self._missing: list[tuple[Process, int]] = []  # and when that was first seen
        self._options = options
        self._tracer = tracer
        self._stacks = stacks
        self._notices = notices
        self._on_end = on_end
        self._probes = HeapProbes(tracer.attacher, options.alloc_prefixes)

    def make_target(self, process: Process, flags: int) -> None:
        """From now on the BPF programs trace the process."""
        process.attached_ns = time.monotonic_ns()
        target = self._tracer.targets.add(process.pid, flags)
        process.code.mm_id, process.code.unmaps = target.mm_id, target.unmaps

    def discover(self, pid: int) -> Process | None:
        """A target whose events come before anything else is known of it; None if it is gone.

        What kwatch's own processes did before they were known as such is not reported.
        """
        if pid in self.exits:
            return self.register_ended(self.exits[pid])
        mm_id = self._tracer.targets.mm_id(
            pid
        )  # before the mappings: those of a later image do no harm
        found = processes.facts(pid) if mm_id and pid not in self._tracer.targets.own else None
        if found is None:
            return None
        process = self.register(found)
        process.code.mm_id = mm_id
        if self._options.mappings:
            self.mapped(process, self.mappings(pid))
        return process

    def register(self, facts: ProcessFacts) -> Process:
        """A process that is known from now on; a former one of its pid has ended."""
        previous = self.process_table.get(facts.pid)
        if previous is not None:
            previous.facts = replace(previous.facts, exited=True)
            self._end(previous)
        return self.process_table.add(facts, Accounts.wanted(self._options))

    def register_ended(self, facts: ProcessFacts) -> Process:
        """A target of which nothing is known but its exit."""
        process = self.register(facts)
        process.coverage.ended_first = True
        return process

    def joined(self, process: Process) -> None:
        """A registered process runs as a target: a child, or one under its new name."""
        process.coverage.mapped_at(process.forked_ns)
        self.join(process, self.mappings)

    def join(self, process: Process, mappings_of: Callable[[int], list[Mapping]]) -> None:
        if not self._options.heap:
            self._notices.announce(_named(process))
        if not self._options.mappings:
            return
        mappings = mappings_of(process.pid)
        process.coverage.ended_first = not mappings and not self._options.system_wide
        for mapping in mappings:
            if mapping.path == "[heap]" and process.memory is not None:
                process.memory.start(mapping.end)
        code = code_of(mappings)
        self._note(process, code)
        if self._stacks is not None:
            self._stacks.publish()  # before the heap has events
        self._hook(process, code)

    def mapped(self, process: Process, mappings: list[Mapping]) -> None:
        """Takes note of mappings, and probes the allocators among them."""
        code = code_of(mappings)
        self._note(process, code)
        self._hook(process, code)

    def _note(self, process: Process, code: list[Mapping]) -> None:
        process.code.map(code)
        if self._stacks is not None:
            self._stacks.mapped(process, code)

    def _hook(self, process: Process, code: list[Mapping]) -> None:
        files = files_of(process.pid, code)
        for hooked in self.probe(self.coverage(process), files, process.coverage):
            self._notices.announce(f"{_named(process)}; heap: {hooked}")

    def unmapped(self, process: Process, start: int, end: int) -> None:
        """Something was unmapped, or mapped over, where code lay."""
        process.code.unmap(start, end)
        self._update_tables(process)

    def reread(self, process: Process) -> None:
        """Some of what it has exec'ed, mapped or unmapped went unseen: what it is now."""
        process.facts = processes.now(process.facts) or process.facts
        if not self._options.mappings:
            return
        process.code.reread_ns = time.monotonic_ns()
        target = self._tracer.targets.get(process.pid)  # before the mappings, as in `discover`
        code = code_of(self.mappings(process.pid))
        if target is None or not code:
            return  # it has ended; what is known of it will do for its last stacks
        process.code.restart(target.mm_id, target.unmaps)
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
            self.mapped(process, self.mappings(process.pid))

    def replaced(self, process: Process) -> None:
        """An exec makes a program of a target that is none: it is to be reported as it was."""
        process.exec_state.replaced = True
        process.forget_heap()
        process.facts = replace(process.exec_state.before_exec or process.facts, exited=True)

    def coverage(self, process: Process) -> Coverage:
        """What of the process's heap is seen."""
        return self.system if self._options.system_wide else process.coverage

    def gap(self, process: Process) -> str:
        """Why some of the process's heap may not have been seen; empty if all was."""
        if process.exec_state.replaced:
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
        left = [pid for pid in found if pid not in self._tracer.targets]
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
        self._tracer.targets.remove(process.pid, process.code.mm_id)
        self._tracer.attacher.detach(process.pid)
        self._tracer.losses.forget(process.pid)
        self.unreadable.discard(process.pid)
        if self._stacks is not None:
            self._stacks.forget(process)
        self.process_table.remove(process)

    def mappings(self, pid: int) -> list[Mapping]:
        """Those of a process that the user did not name: it may be one that may not be read."""
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
    """For people: what is traced of 32-bit programs. `syscalls`: their calls are."""
    programs, their = ("32-bit programs", "their") if many else ("32-bit program", "its")
    calls = f"{their} system calls are traced, " if syscalls else ""
    return f"{programs}: {calls}{their} heap is not{'' if syscalls else ' traced'}"


def code_of(mappings: Iterable[Mapping]) -> list[Mapping]:
    return [mapping for mapping in mappings if mapping.executable]


def files_of(pid: int, mappings: Iterable[Mapping]) -> Iterator[MappedFile]:
    """The files whose code is mapped, as far as they can be opened."""
    for mapping in mappings:
        if mapping.executable and mapping.inode and (path := file_of(pid, mapping)):
            yield MappedFile((mapping.device, mapping.inode), path, mapping.path)


def _named(process: Process) -> str:
    return f"attached to {process.facts.comm}[{process.pid}]"
