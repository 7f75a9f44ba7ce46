# SPDX-License-Identifier: Apache-2.0
"""When events of a process's heap may have been lost: between two reads of the counters."""

from __future__ import annotations

import time
from bisect import bisect_left

from kwatch.model.losses import name_of
from kwatch.session.losses import LossAccount
from kwatch.wire.events import Loss

#: From one time to another, in ns.
Period = tuple[int, int]

#: Counted once, and goes on: a process that shares the memory uses the heap unseen.
_GOES_ON = name_of(Loss.SHARED_HEAP_UNSEEN)


class LossPeriods:
    """Of one process. `goes_on`: whether it loses events without end, as of the last read."""

    def __init__(self, losses: LossAccount) -> None:
        self.periods: list[Period] = []
        self.goes_on = False
        self._losses = losses
        self._events = 0
        self._read_ns = 0

    def read(self, pid: int) -> None:
        """Call it when the events to be judged have been delivered: later losses do not matter."""
        now = time.monotonic_ns()
        self._losses.refresh_of(pid)
        lost = self._losses.of_heap(pid)
        if lost.events > self._events:
            follows = bool(self.periods) and self.periods[-1][1] == self._read_ns
            start = self.periods.pop()[0] if follows else self._read_ns
            self.periods.append((start, now))
        self.goes_on = _GOES_ON in lost.by_cause
        self._events, self._read_ns = lost.events, now

    def has_any(self, start_ns: int, end_ns: int) -> bool:
        """Whether events may have been lost in this time."""
        index = bisect_left(self.periods, start_ns, key=lambda period: period[1])
        return self.goes_on or (index < len(self.periods) and self.periods[index][0] <= end_ns)
