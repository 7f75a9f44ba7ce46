# SPDX-License-Identifier: Apache-2.0
"""A mark, and what a process has allocated between two of them."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.model.reach import BlockCounts


@dataclass(frozen=True, slots=True)
class Mark:
    """`since_ns` is the time of the mark before; 0 for the first. Both are on the events' clock."""

    number: int
    at_ns: int
    since_ns: int = 0

    @property
    def seconds(self) -> float:
        """The time since the mark before."""
        return round((self.at_ns - self.since_ns) / 1e9, 3)


@dataclass(frozen=True, slots=True)
class SinceMark:
    """The outstanding blocks that were allocated in the `seconds` between two marks.

    `reach`: how many of them are lost; None if the heap was not scanned.
    """

    seconds: float
    blocks: int
    bytes: int
    reach: BlockCounts | None = None
