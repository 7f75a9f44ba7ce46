# SPDX-License-Identifier: Apache-2.0
"""Stack records that wait until events have been applied.

A stack takes a hundred times as long as an event, and the event rings must not fill up meanwhile. A
stack that does not fit into its own ring is sent again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from kwatch.rings.perf_ring import ControlRecord

MAX_WAITING = 4096  # further records stay in their ring


class PendingStacks:
    """`read` is called with each record, in order of time.

    `fetch` returns the records in the ring from before a moment.
    """

    def __init__(
        self, fetch: Callable[[float], list[ControlRecord]], read: Callable[[bytes], None]
    ) -> None:
        self._fetch = fetch
        self._read = read
        self._waiting: deque[ControlRecord] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < MAX_WAITING

    def add(self, records: Iterable[ControlRecord]) -> None:
        """Adds records that are later than all waiting ones."""
        self._waiting.extend(records)

    def read_some(self, seconds: float) -> None:
        """Reads records for at most `seconds`."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self._read(self._waiting.popleft().data)

    def read_before(self, time_ns: float) -> None:
        """Reads all records from before a moment, such as an exec that replaces their code.

        Later ones wait: events in between may change the code. `math.inf` reads all.
        """
        if found := self._fetch(time_ns):
            both = [*self._waiting, *found]
            self._waiting = deque(sorted(both, key=lambda record: record.time_ns))
        while self._waiting and self._waiting[0].time_ns < time_ns:
            self._read(self._waiting.popleft().data)
