# SPDX-License-Identifier: Apache-2.0
"""Where the segments of a file lie in its table: a large distance without code takes no room."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from kwatch.elf.elf import Segment
from kwatch.wire.unwind_rows import BLOCK_SIZE

_FAR = 16 << 20  # bytes without code between two segments


def omitted(segments: Sequence[Segment]) -> list[int]:
    """For each segment, how many bytes before it the table leaves out: whole blocks."""
    order = sorted(range(len(segments)), key=lambda index: segments[index].vaddr)
    found = [0] * len(segments)
    total, end = 0, None
    for index in order:
        each = segments[index]
        if end is not None:
            gap = (each.vaddr - end) // BLOCK_SIZE * BLOCK_SIZE
            total += gap if gap >= _FAR else 0
        found[index] = total
        end = max(end or 0, each.vaddr + each.filesz)
    return found


class Placement:
    """The places of a file's code in its table, from its segments."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        places = zip(segments, omitted(segments), strict=True)
        self._places = sorted(places, key=lambda each: each[0].vaddr)
        self._starts = [segment.vaddr for segment, _ in self._places]
        self._has_gaps = any(gap for _, gap in self._places)

    def place(self, vaddr: int) -> int:
        """The address less what is left out before it; -1 outside the segments."""
        if not self._has_gaps:
            return vaddr
        segment, gap = self._places[max(bisect_right(self._starts, vaddr) - 1, 0)]
        return vaddr - gap if 0 <= vaddr - segment.vaddr < segment.filesz else -1

    @property
    def end(self) -> int:
        """The place after the last code."""
        return max(each.vaddr + each.filesz - gap for each, gap in self._places)
