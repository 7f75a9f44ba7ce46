# SPDX-License-Identifier: Apache-2.0
"""Processes that have ended, summed by name: a loop of short-lived processes shows as one row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from kwatch.aggregate.syscalls import SyscallAccount
from kwatch.processes.process_table import ProcessTable

_MAX_NAMES = 512
OTHER_NAMES = "(other names)"


@dataclass(slots=True)
class EndedName:
    """The ended processes with one name. `skipped`: those without a report of their own."""

    comm: str
    slot: int
    processes: int = 0
    skipped: int = 0


class EndedProcesses:
    """Keeps the system calls of ended processes in `syscalls`, in a slot for each name."""

    def __init__(self, process_table: ProcessTable, syscalls: SyscallAccount) -> None:
        self._process_table = process_table
        self._syscalls = syscalls
        self._names: dict[str, EndedName] = {}
        self._free: list[int] = []
        # Slots of names that have become other names, by batch: pids may share them for two more.
        self._leaving: deque[list[int]] = deque([[], [], []])

    def __iter__(self) -> Iterator[EndedName]:
        return iter(self._names.values())

    def of(self, comm: str) -> EndedName:
        """The sums of a name."""
        if comm not in self._names:
            if len(self._names) >= _MAX_NAMES:
                self._join_rare_names()
            self._names[comm] = EndedName(comm, self._new_slot())
        return self._names[comm]

    def next_batch(self) -> None:
        """Call this before each batch."""
        self._leaving.append([])
        for slot in self._leaving.popleft():
            if OTHER_NAMES in self._names:
                self._syscalls.merge(slot, self._names[OTHER_NAMES].slot)
            self._syscalls.drop(slot)
            self._free.append(slot)

    def add(self, comm: str, slot: int) -> None:
        """Adds a process that has ended and is about to leave its slot."""
        name = self.of(comm)
        name.processes += 1
        self._syscalls.merge(slot, name.slot)

    def _new_slot(self) -> int:
        return self._free.pop() if self._free else self._process_table.new_slot()

    def _join_rare_names(self) -> None:
        """Makes the rarer half of the names one name: a loop that begins later has room."""
        others = self._names.pop(OTHER_NAMES, None) or EndedName(OTHER_NAMES, self._new_slot())
        by_processes = sorted(self._names.values(), key=lambda name: name.processes)
        for name in by_processes[: len(by_processes) // 2]:
            del self._names[name.comm]
            others.processes += name.processes
            others.skipped += name.skipped
            self._syscalls.merge(name.slot, others.slot)
            self._syscalls.drop(name.slot)
            self._leaving[-1].append(name.slot)
        self._names[OTHER_NAMES] = others
