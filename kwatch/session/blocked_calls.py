# SPDX-License-Identifier: Apache-2.0
"""Finds recorded calls that have been in progress for long, each of them once."""

from __future__ import annotations

import time

import numpy as np

from kwatch.session.pending_calls import OpenCall, PendingCalls, as_records
from kwatch.wire.events import Batch

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

    def new(self, before_ns: int) -> Batch:
        """Those that have not been returned before, as records of calls in progress.

        `before_ns`: the records until then have been taken; later calls are left for the next time.
        """
        began = time.monotonic()
        if began < self._next_look:
            return np.zeros(0, self._dtype)
        now = time.monotonic_ns()
        long = [each for each in self._calls.recorded() if now - each[0].time_ns >= LONG_NS // 2]
        seen = {call.tid: bytes(call) + bytes(recorded) for call, recorded in long}
        found = [
            each
            for each in long
            if self._before.get(each[0].tid) == seen[each[0].tid]
            and now - each[0].time_ns >= LONG_NS
            and each[0].time_ns < before_ns
            and self._told.get(each[0].tid) != each[1].seq
        ]
        self._before = seen
        self._told = {tid: seq for tid, seq in self._told.items() if tid in seen}
        self._told |= {call.tid: recorded.seq for call, recorded in found}
        self._next_look = began + max(_LOOK_S, _REST * (time.monotonic() - began))
        return as_records(_in_order(found), now, self._dtype)


def _in_order(calls: list[OpenCall]) -> list[OpenCall]:
    """As they began."""
    return sorted(calls, key=lambda each: each[0].time_ns)
