# SPDX-License-Identifier: Apache-2.0
"""Which numbers out of a fixed range are taken: first fit, with neighbours joined when freed."""

from __future__ import annotations

from bisect import bisect_left


class FreeRanges:
    """Hands out runs of the numbers from 0 to `size`."""

    def __init__(self, size: int) -> None:
        self._free: list[tuple[int, int]] = [(0, size)]  # (first, end), sorted, never touching

    def take(self, count: int) -> int | None:
        """The first of `count` free numbers in a row; None if there are none."""
        for index, (first, end) in enumerate(self._free):
            if end - first >= count:
                rest = [(first + count, end)] if end - first > count else []
                self._free[index : index + 1] = rest
                return first
        return None

    def give_back(self, first: int, count: int) -> None:
        """What `take` gave."""
        if not count:
            return
        end = first + count
        index = bisect_left(self._free, (first, end))
        after = index
        if index and self._free[index - 1][1] == first:
            index -= 1
            first = self._free[index][0]
        if after < len(self._free) and self._free[after][0] == end:
            end = self._free[after][1]
            after += 1
        self._free[index:after] = [(first, end)]

    def is_free(self, first: int, end: int) -> bool:
        """Whether all of [first, end) is."""
        return any(start <= first and end <= stop for start, stop in self._free)
