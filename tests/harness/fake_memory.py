# SPDX-License-Identifier: Apache-2.0
"""A process that is only words at addresses, for tests of what kwatch reads in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np

from kwatch.reach.layout import HeapLayout, layout
from kwatch.reach.regions import Region
from kwatch.reach.scan import Scan, scan


class FakeMemory:
    """Words by address; 0 elsewhere."""

    def __init__(self, words: Mapping[int, int]) -> None:
        self._words = words

    def read(self, ranges, into) -> list[tuple[int, int]]:
        parts = [self._bytes(start, end) for start, end in ranges.tolist()]
        into[:] = np.frombuffer(b"".join(parts), np.uint8)
        return []

    def _bytes(self, start: int, end: int) -> bytes:
        first, last = start // 8 * 8, -(-end // 8) * 8
        words = [self._words.get(address, 0) for address in range(first, last, 8)]
        return np.array(words, np.uint64).tobytes()[start - first : end - first]


class FakePages:
    """All pages are resident."""

    def resident(self, start: int, end: int, shared: bool):
        return np.array([(start, end)], np.uint64)


def region(
    start: int, end: int, permissions: str = "rw-p", path: str = "", inode: int = 0
) -> Region:
    return Region(start, end, permissions, inode, path)


def thread(tid: int = 1, stack_pointer: int | None = None, **registers: int):
    values = np.array(list(registers.values()), np.uint64)
    return SimpleNamespace(
        tid=tid, stack_pointer=stack_pointer, registers=values, names=tuple(registers)
    )


def heap(blocks: Mapping[int, int], walked: Sequence[tuple[int, int]] | None = None) -> HeapLayout:
    """Blocks as address: size. With `walked`, a walk found them there, with usable sizes."""
    starts = np.array(sorted(blocks), np.uint64)
    sizes = np.array([blocks[start] for start in sorted(blocks)], np.uint64)
    if walked is None:
        return layout(None, (starts, sizes))
    pieces = np.array(walked, np.uint64).reshape(-1, 2)
    walk = SimpleNamespace(starts=starts, sizes=sizes, pieces=pieces, own=pieces[:0])
    return layout(walk, None)


def scanned(words: Mapping[int, int], regions: Sequence[Region], of: HeapLayout, *threads) -> Scan:
    return scan(FakeMemory(words), FakePages(), regions, of, threads)
