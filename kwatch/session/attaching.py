# SPDX-License-Identifier: Apache-2.0
"""Makes processes targets: by pid, by name, a launched command, or every process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from kwatch.errors import KwatchError
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.probes import hazards
from kwatch.probes.coverage import MappedFile
from kwatch.processes.process import Process
from kwatch.procfs.mappings import read_mappings
from kwatch.session.tracees import Tracees, code_of, files_of
from kwatch.session.tracer import Tracer
from kwatch.stacks.reader import StackReader
from kwatch.targets import processes
from kwatch.wire.maps import TargetFlag


class Attaching:
    """Raises KwatchError if the kernel refuses a process that the user gave by pid or command."""

    def __init__(
        self, options: TraceOptions, tracer: Tracer, stacks: StackReader | None, tracees: Tracees
    ) -> None:
        self._options = options
        self._tracer = tracer
        self._stacks = stacks
        self._tracees = tracees

    def attach(self, facts: ProcessFacts, by_comm: bool = False, late: bool = False) -> None:
        """Makes a running process a target and probes its allocators. `late`: see Coverage.

        Raises Ended if the user gave its pid and it has ended.
        """
        flags = TargetFlag.INHERIT if self._options.follow or by_comm else 0
        if by_comm and not self._options.follow:
            flags |= TargetFlag.BY_COMM
        process = self._tracees.register(facts)
        process.coverage.late = late
        if self._stacks is not None:  # before the first event has a stack
            self._stacks.load(facts.pid, code_of(self._tracees.mappings(facts.pid)))
        self._tracees.make_target(process, flags)
        if self._options.holds_memory and self._options.scan_at_exit:
            self._tracer.held.take(facts.pid)
        found = processes.now(facts) if by_comm else processes.require_still(facts)
        if found is not None and (not by_comm or self._is_named(found.pid)):
            process.facts = found  # it may have exec'ed since the first look
            self._tracees.join(process, read_mappings if not by_comm else self._tracees.mappings)
        elif self._tracer.targets.remove(process.pid, process.code.mm_id):
            process.facts = replace(process.facts, exited=True)
            self._tracees.end([process])  # otherwise its exit record follows

    def leave_out(self, facts: ProcessFacts) -> None:
        """Reports a process that has ended while the others that the user named were attached."""
        process = self._tracees.process_table.get(facts.pid)
        if process is None:
            return
        process.coverage.ended_first = True
        if self._tracer.targets.remove(process.pid, process.code.mm_id):
            process.facts = replace(process.facts, exited=True)
            self._tracees.end([process])  # otherwise its exit record follows

    def attach_launched(self, facts: ProcessFacts, files: list[str]) -> Process:
        """Makes a command a target before its exec; `files`: what it will map."""
        flags = TargetFlag.WAITING | (TargetFlag.INHERIT if self._options.follow else 0)
        process = self._tracees.register(facts)
        self._tracees.make_target(process, flags)
        self._tracees.probe(process.coverage, map(_unmapped_file, files))
        if self._stacks is not None:
            self._stacks.prepare(files)
        return process

    def attach_system(self) -> None:
        """Probes every allocator that any process has mapped, for all processes.

        Raises KwatchError if that would end a process.
        """
        mapped = {
            pid: list(files_of(pid, self._tracees.mappings(pid)))
            for pid in processes.all_pids()
            if pid not in self._tracer.targets.own
        }
        for pid, files in mapped.items():
            self._require_safe(pid, files)
        for files in mapped.values():
            self._tracees.probe(self._tracees.system, files)
        self._tracees.system.late = True  # a process already runs an allocator that is found later

    def _require_safe(self, pid: int, files: Iterable[MappedFile]) -> None:
        why = hazards.breakpoint_hazard(pid, [file.shown for file in files])
        if not why and (why := hazards.return_hazard(pid)):
            self._tracees.dispatchers.add(pid)
        if why and not (pid in self._tracees.dispatchers and self._tracer.attacher.spares_returns):
            raise KwatchError(
                f"the heap of every process cannot be traced: {processes.comm_of(pid)}[{pid}] "
                f"would be harmed: {why}",
                "choose processes with --pid or --comm, or start kwatch when it has ended",
            )

    def attach_named(self, pid: int, late: bool = False) -> None:
        """Makes a process a target if its name matches and it is not a target yet."""
        if pid == os.getpid() or pid in self._tracer.targets:
            return
        found = processes.facts(pid)
        if found is None or not self._is_named(pid):
            return
        known = self._tracees.process_table.get(pid)
        if known is not None and processes.same_start(known.facts.start_time, found.start_time):
            self._tracees.replaced(known)  # its exec record has not arrived yet
        self.attach(found, by_comm=True, late=late)

    def named(self) -> list[int]:
        """The processes whose names match now."""
        return list(processes.named(self._options.comms)) if self._options.comms else []

    def _is_named(self, pid: int) -> bool:
        return processes.name_matches(pid, self._options.comms)


def _unmapped_file(path: str) -> MappedFile:
    """A file that is not mapped yet."""
    status = os.stat(path)
    return MappedFile((status.st_dev, status.st_ino), path, path)
