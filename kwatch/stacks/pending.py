# SPDX-License-Identifier: Apache-2.0
"""Records of stacks, which wait until events have been handled.

Each takes a hundred times as long as an event, and the rings of events must not fill up meanwhile;
a stack that finds no room in its own ring is sent again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from kwatch.rings.perf_ring import ControlRecord
from kwatch.rings.stream import Stream

_MAX_WAITING = 4096  # waiting; more stay in their ring


class StackQueue:
    """`read` is called with each record, in order."""

    def __init__(self, stream: Stream, read: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._read = read
        self._waiting: deque[ControlRecord] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: ControlRecord) -> None:
        self._waiting.append(record)

    def read_some(self, seconds: float) -> None:
        """Those that wait, for at most so long."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self._read(self._waiting.popleft().data)
        self._stream.takes_stacks = len(self._waiting) < _MAX_WAITING

    def read_before(self, time_ns: float) -> None:
        """All from before a moment, such as an exec, while what they lead through is known.

        Later ones wait for what happened between: an exec would take them along. `math.inf` reads
        all that there are.
        """
        if found := self._stream.read_stacks(time_ns):
            both = [*self._waiting, *found]
            self._waiting = deque(sorted(both, key=lambda record: record.time_ns))
        while self._waiting and self._waiting[0].time_ns < time_ns:
            self._read(self._waiting.popleft().data)
        self._stream.takes_stacks = len(self._waiting) < _MAX_WAITING
