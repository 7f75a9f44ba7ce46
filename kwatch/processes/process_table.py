# SPDX-License-Identifier: Apache-2.0
"""The traced processes by pid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process

_PID_LIMIT = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h: kernel.pid_max may be raised


class ProcessTable:
    """Maps pids to processes, and event batches to slots without a Python loop over events."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        self._slot: npt.NDArray[np.intp] = np.zeros(_PID_LIMIT + 1, np.intp)
        self._free: list[int] = []
        self._slots = 1  # slot 0 means an unknown process
        self.had_any = False  # whether there ever was a process

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._processes.values()))

    def __len__(self) -> int:
        return len(self._processes)

    def __contains__(self, pid: object) -> bool:
        return pid in self._processes

    def get(self, pid: int) -> Process | None:
        return self._processes.get(pid)

    def add(self, facts: ProcessFacts, accounts: Accounts) -> Process:
        """Adds a process; an earlier one with the same pid must have been removed."""
        process = Process(facts, self.new_slot(), Coverage(facts.pid), accounts)
        self.had_any = True
        self._processes[facts.pid] = process
        self._slot[facts.pid] = process.slot
        return process

    def remove(self, process: Process) -> None:
        del self._processes[process.pid]
        self._slot[process.pid] = 0
        self._free.append(process.slot)

    def new_slot(self) -> int:
        """A slot for a process, or for many processes together."""
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        return self._free.pop()

    def share_slot(self, pid: int, slot: int) -> None:
        """Events of a pid without a process belong to this slot, until a process has the pid."""
        self._slot[pid] = slot

    def unshare_slot(self, pid: int) -> None:
        if pid not in self._processes:
            self._slot[pid] = 0

    def slots(self, tgids: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
        """The slot of each event's process; 0 if the process is unknown."""
        return self._slot.take(tgids)
