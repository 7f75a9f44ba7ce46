# SPDX-License-Identifier: Apache-2.0
"""The traced processes by identity, and what is known of each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.memory import MemoryAccount
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.process import Process

_PAGE_SIZE = os.sysconf("SC_PAGESIZE")


_PID_LIMIT = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h: kernel.pid_max may be raised


class ProcessTable:
    """Maps pids to processes, and event batches to slots without a Python step per event.

    `by_stack`: heaps also count what each stack has allocated.
    """

    def __init__(self, by_stack: bool = False) -> None:
        self._by_stack = by_stack
        self._processes: dict[int, Process] = {}
        self._slot: npt.NDArray[np.intp] = np.zeros(_PID_LIMIT + 1, np.intp)
        self._free: list[int] = []
        self._slots = 1  # slot 0 belongs to nobody

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._processes.values()))

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def had_any(self) -> bool:
        """Whether there ever was a process."""
        return self._slots > 1

    def get(self, pid: int) -> Process | None:
        return self._processes.get(pid)

    def add(self, facts: ProcessFacts, heap: bool) -> Process:
        """A new process; one of the same pid must have been removed."""
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        process = Process(facts, self._free.pop(), Coverage(facts.pid))
        if heap:
            process.heap, process.memory = HeapAccount(self._by_stack), MemoryAccount(_PAGE_SIZE)
        self._processes[facts.pid] = process
        self._slot[facts.pid] = process.slot
        return process

    def remove(self, process: Process) -> None:
        del self._processes[process.pid]
        self._slot[process.pid] = 0
        self._free.append(process.slot)

    def slots(self, tgids: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
        """The slot of each event's process; 0 where it is not known."""
        return self._slot.take(tgids)
