# SPDX-License-Identifier: Apache-2.0
"""Finds recorded calls that have been in progress for long, each of them once."""

from __future__ import annotations

import time

import numpy as np

from kwatch.rings.call_areas import CallBytes, OwnBytes
from kwatch.session.pending_calls import PendingCalls, as_records
from kwatch.session.thread_slots import KeptCall

LONG_NS = 1_000_000_000
_LOOK_S = 0.5
_REST = 50  # a look takes at most this part of the time: it reads the slots of all threads


class BlockedCalls:
    """Looks now and then. BPF programs may write a slot while it is read, so a call must have been
    the same at the look before."""

    def __init__(self, calls: PendingCalls, dtype: np.dtype[np.void]) -> None:
        """`dtype`: CALL."""
        self._calls = calls
        self._dtype = dtype
        self._next_look = 0.0
        self._before: dict[int, bytes] = {}  # by tid
        self._told: dict[int, int] = {}  # the number of the call of each thread

    def new(self, before_ns: int) -> CallBytes:
        """Those that have not been returned before, as records of calls in progress.

        `before_ns`: the records until then have been taken; later calls are left for the next time.
        """
        began, now = time.monotonic(), time.monotonic_ns()
        found: list[KeptCall] = []
        if began >= self._next_look:
            found = self._look(now, before_ns)
            self._next_look = began + max(_LOOK_S, _REST * (time.monotonic() - began))
        own = OwnBytes()
        return own.copy(as_records(found, now, self._dtype, own.hold))

    def _look(self, now_ns: int, before_ns: int) -> list[KeptCall]:
        """In the order in which they began."""
        calls = self._calls.recorded()
        long = [each for each in calls if now_ns - each.call.time_ns >= LONG_NS // 2]
        seen = {each.call.tid: b"".join(map(bytes, each)) for each in long}
        found = [
            each
            for each in long
            if self._before.get(each.call.tid) == seen[each.call.tid]
            and now_ns - each.call.time_ns >= LONG_NS
            and each.call.time_ns < before_ns
            and self._told.get(each.call.tid) != each.recorded.seq
        ]
        self._before = seen
        self._told = {tid: seq for tid, seq in self._told.items() if tid in seen}
        self._told |= {each.call.tid: each.recorded.seq for each in found}
        return sorted(found, key=lambda each: each.call.time_ns)
