# SPDX-License-Identifier: Apache-2.0
"""Reads what the traced processes use: when they join, now and then, and for each report.

A process that has ended cannot be read, so the last reading before its end counts. With few
processes, it is at most as old as half of the time that the process has been traced, or a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection

from kwatch.processes.process import Process
from kwatch.procfs.usage import read_usage

_FIRST_S, _MAX_S = 0.02, 1.0  # between readings; each is twice as long as the one before
_MAX_PROCESSES = 64  # read at a time; more take turns


class UsageWatch:
    """`processes`: the traced processes."""

    def __init__(self, processes: Collection[Process]) -> None:
        self._processes = processes
        self._next = math.inf
        self._pause_s = _FIRST_S
        self._turn = 0  # the first process to be read next

    def read(self, process: Process) -> None:
        """Takes a reading of a process that has not ended."""
        usage = None if process.facts.exited else read_usage(process.pid)
        if usage is not None:
            process.usage.add(usage)
        if process.heap is not None:
            process.live_bytes.add(process.heap.live_bytes)
        if usage is not None and usage.descriptors is not None:
            process.descriptors.add(usage.descriptors)

    def joined(self, process: Process) -> None:
        """Takes the first reading of a process; more follow soon."""
        self.read(process)
        self._next = time.monotonic() + _FIRST_S
        self._pause_s = _FIRST_S

    @property
    def seconds_left(self) -> float:
        """Until the next reading is due; infinite without processes."""
        return max(self._next - time.monotonic(), 0.0) if self._processes else math.inf

    def read_due(self) -> None:
        """Takes readings if it is time; cheap otherwise."""
        now = time.monotonic()
        if now < self._next:
            return
        processes = list(self._processes)
        self._turn %= max(len(processes), 1)
        for process in processes[self._turn : self._turn + _MAX_PROCESSES]:
            self.read(process)
        self._turn += _MAX_PROCESSES
        self._pause_s = min(2 * self._pause_s, _MAX_S)
        self._next = now + self._pause_s
