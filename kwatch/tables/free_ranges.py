# SPDX-License-Identifier: Apache-2.0
"""Which numbers of a fixed range are free: first fit, and neighbors are joined when freed."""

from __future__ import annotations

from kwatch.system.intervals import Intervals, Range


class FreeRanges:
    """Allocates runs of the numbers below `size`."""

    def __init__(self, size: int) -> None:
        self._free = Intervals[Range]()
        self._free.replace(0, size, [Range(0, size)])

    def take(self, count: int) -> int | None:
        """Takes `count` consecutive free numbers; returns the first, None if there are none."""
        for first, end in self._free:
            if end - first >= count:
                self._free.replace(first, first + count)
                return first
        return None

    def give_back(self, first: int, count: int) -> None:
        """Frees what `take` returned."""
        if not count:
            return
        end = first + count
        before, after = self._free.find(first - 1), self._free.find(end)
        start, end = before.start if before else first, after.end if after else end
        self._free.replace(start, end, [Range(start, end)])

    def is_free(self, first: int, end: int) -> bool:
        """Whether all of [first, end) is free."""
        found = self._free.find(first)
        return found is not None and end <= found.end
