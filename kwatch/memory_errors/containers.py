# SPDX-License-Identifier: Apache-2.0
"""Finds the live block that contains an address without beginning there."""

from __future__ import annotations

import numpy as np

from kwatch.memory_errors.block_table import BlockTable
from kwatch.memory_errors.history import use_of
from kwatch.memory_errors.suspects import Block, block_of
from kwatch.wire.events import Batch, EventType

_MAX_SEARCHES = 256  # among the events of one batch; each reads all of them


class Containers:
    """`events`: a batch by address and then by time. `table`: what was known before it."""

    def __init__(self, events: Batch, table: BlockTable) -> None:
        self._live = table.live()
        self._starts = np.ascontiguousarray(self._live["address"])
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
        index = int(self._starts.searchsorted(address)) - 1
        if index < 0:
            return None
        row = self._live[index]
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
