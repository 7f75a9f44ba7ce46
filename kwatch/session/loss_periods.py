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
_ABANDONED = name_of(Loss.HEAP_CALL_ABANDONED)
#: Twice the time (STALE_NS in bpf/pending_calls.h) after which what a call has hidden is counted.
LATE_NS = 2_000_000_000


class LossPeriods:
    """Of one process. `goes_on`: whether it loses events without end, as of the last read."""

    def __init__(self, losses: LossAccount) -> None:
        self.periods: list[Period] = []
        self.goes_on = False
        self._losses = losses
        self._events = self._abandoned = 0
        self._read_ns = 0

    def read(self, pid: int) -> None:
        """Call it when the losses have been read, after the events to be judged were delivered.

        Of later losses, only those matter that are counted late: see `LATE_NS`.
        """
        now = time.monotonic_ns()
        lost = self._losses.of_heap(pid)
        abandoned = lost.by_cause.get(_ABANDONED, 0)
        if lost.events > self._events:
            start = self._read_ns - (LATE_NS if abandoned > self._abandoned else 0)
            if self.periods and self.periods[-1][1] == self._read_ns:
                start = min(start, self.periods.pop()[0])
            self.periods.append((start, now))
        self.goes_on = _GOES_ON in lost.by_cause
        self._events, self._abandoned, self._read_ns = lost.events, abandoned, now

    def has_any(self, start_ns: int, end_ns: int) -> bool:
        """Whether events may have been lost in this time."""
        index = bisect_left(self.periods, start_ns, key=lambda period: period[1])
        return self.goes_on or any(start <= end_ns for start, _ in self.periods[index:])
