# SPDX-License-Identifier: Apache-2.0
"""Processes that have ended, summed by name: a loop of short-lived processes shows as one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kwatch.aggregate.syscalls import SyscallAccount
from kwatch.processes.process_table import ProcessTable

_MAX_NAMES = 1024
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

    def __iter__(self) -> Iterator[EndedName]:
        return iter(self._names.values())

    def of(self, comm: str) -> EndedName:
        """The sums of a name. After very many names, further ones are counted together."""
        if comm not in self._names:
            if len(self._names) >= _MAX_NAMES:
                comm = OTHER_NAMES
            if comm not in self._names:
                self._names[comm] = EndedName(comm, self._process_table.new_slot())
        return self._names[comm]

    def add(self, comm: str, slot: int) -> None:
        """Adds a process that has ended and is about to leave its slot."""
        name = self.of(comm)
        name.processes += 1
        self._syscalls.merge(slot, name.slot)
