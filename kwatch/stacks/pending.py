# SPDX-License-Identifier: Apache-2.0
"""Stack records that wait until events have been applied.

A stack takes a hundred times as long as an event, and the event rings must not fill up meanwhile. A
stack that does not fit into its own ring is sent again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from kwatch.rings.perf_ring import ControlRecord

MAX_WAITING = 4096  # further records stay in their ring


class PendingStacks:
    """`read` is called with each record, in order of time.

    `fetch` returns the records in the ring from before a moment. `drop` is called instead of `read`
    with the records for which no time is left. `has_room`: whether the other rings can wait longer.
    """

    def __init__(
        self,
        fetch: Callable[[float], list[ControlRecord]],
        read: Callable[[bytes], None],
        drop: Callable[[bytes], None],
        has_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._fetch = fetch
        self._read = read
        self._drop = drop
        self._has_room = has_room
        self._limit_s = self._longest_s = math.inf
        self._spent_s = 0.0
        self._drop_before_ns = 0.0
        self._waiting: deque[ControlRecord] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < MAX_WAITING

    def add(self, records: Iterable[ControlRecord]) -> None:
        """Adds records that are later than all waiting ones."""
        self._waiting.extend(records)

    def limit(self, seconds: float, longest_s: float = 0.0) -> None:
        """Limits the time for all calls of `read_before` until the next limit.

        They may take `longest_s`, if that is more, as long as the other rings have room.
        """
        self._limit_s, self._longest_s, self._spent_s = seconds, longest_s, 0.0

    def read_some(self, seconds: float) -> None:
        """Reads records for at most `seconds`."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self._use_next()

    def read_before(self, time_ns: float) -> None:
        """Reads all records from before a moment, such as an exec that replaces their code.

        Later ones wait: events in between may change the code. `math.inf` reads all.
        """
        began, spent_s = time.monotonic(), self._spent_s
        if not self._has_time():  # the rest stays in the ring; code may change before it is read
            self._drop_before_ns = max(self._drop_before_ns, time_ns)
        elif found := self._fetch(time_ns):
            both = [*self._waiting, *found]
            self._waiting = deque(sorted(both, key=lambda record: record.time_ns))
        while self._waiting and self._waiting[0].time_ns < time_ns:
            self._spent_s = spent_s + time.monotonic() - began
            self._use_next(self._has_time())
        self._spent_s = spent_s + time.monotonic() - began

    def _has_time(self) -> bool:
        if self._spent_s < self._limit_s:
            return True
        return self._spent_s < self._longest_s and self._has_room()

    def _use_next(self, has_time: bool = True) -> None:
        record = self._waiting.popleft()
        is_wanted = has_time and record.time_ns >= self._drop_before_ns
        (self._read if is_wanted else self._drop)(record.data)
