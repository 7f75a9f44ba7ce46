# SPDX-License-Identifier: Apache-2.0
"""Finds the live block that contains an address without beginning there."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.order import Index
from kwatch.memory_errors.block_table import BlockTable
from kwatch.memory_errors.history import use_of
from kwatch.memory_errors.suspects import Block, block_of
from kwatch.wire.events import Batch, EventType

_MAX_SEARCHES = 256  # among the events of one batch; each reads all of them


class Containers:
    """`events`: a batch by address and then by time. `table`: what was known before it.

    `releases`: the indices of the events that will be asked for.
    """

    def __init__(self, events: Batch, table: BlockTable, releases: Index) -> None:
        self._released = np.unique(events["address"][releases])
        self._before = table.live_before(self._released)
        self._addresses = np.ascontiguousarray(events["address"])
        self._times = np.ascontiguousarray(events["time_ns"])
        sizes = np.where(events["type"] == EventType.ALLOC.value, events["size"], 0)
        self._ends = self._addresses + sizes
        self._events = events
        self._searches = 0

    def find(self, release: np.void) -> Block | None:
        """The block that contained the address of the release when it was made."""
        address, now = release["address"], release["time_ns"]
        return self._in_batch(address, now) or self._before_batch(address, now)

    def _in_batch(self, address: np.uint64, now: np.uint64) -> Block | None:
        self._searches += 1
        if self._searches > _MAX_SEARCHES:
            return None
        contains = (self._addresses < address) & (address < self._ends) & (self._times < now)
        for index in np.flatnonzero(contains)[::-1].tolist():
            event = self._events[index]
            if not self._is_touched(event["address"], event["time_ns"], now):
                return Block(int(event["address"]), int(event["size"]), use_of(event))
        return None

    def _before_batch(self, address: np.uint64, now: np.uint64) -> Block | None:
        row = self._before[self._released.searchsorted(address)]
        if address >= row["address"] + row["size"]:
            return None
        is_touched = self._is_touched(row["address"], row["alloc_ns"], now)
        return None if is_touched else block_of(row)

    def _is_touched(self, address: np.uint64, after: np.uint64, before: np.uint64) -> bool:
        """Whether the batch has an event of the address between two moments."""
        first, last = (
            self._addresses.searchsorted(address),
            self._addresses.searchsorted(address, side="right"),
        )
        times = self._times[first:last]
        return bool(((times > after) & (times < before)).any())
