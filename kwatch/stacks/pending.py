# SPDX-License-Identifier: Apache-2.0
"""Records of stacks that wait until events have been handled.

A stack takes a hundred times as long as an event, and the rings of events must not fill up
meanwhile. A stack that finds no room in its own ring is sent again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from kwatch.rings.perf_ring import ControlRecord

MAX_WAITING = 4096  # more stay in their ring


class PendingStacks:
    """`read` is called with each record, in order of time.

    `fetch` returns the records that the ring has from before a moment.
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
        """Records that are later than all that wait."""
        self._waiting.extend(records)

    def read_some(self, seconds: float) -> None:
        """Reads for at most so long."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self._read(self._waiting.popleft().data)

    def read_before(self, time_ns: float) -> None:
        """Reads all from before a moment, such as an exec, while their code is still known.

        Later ones wait: what happened between may change their code. `math.inf` reads all.
        """
        if found := self._fetch(time_ns):
            both = [*self._waiting, *found]
            self._waiting = deque(sorted(both, key=lambda record: record.time_ns))
        while self._waiting and self._waiting[0].time_ns < time_ns:
            self._read(self._waiting.popleft().data)
