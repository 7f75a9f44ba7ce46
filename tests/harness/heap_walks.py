# SPDX-License-Identifier: Apache-2.0
"""Walks the heap of a process, and reads what tests/programs/heapwalk.c says about its blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kwatch.reach.heaps.heap_walk import HeapWalk, walk_heap
from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import read_regions


def walk_process(pid: int) -> HeapWalk | None:
    memory, pages = TargetMemory(pid), PageMap(pid)
    try:
        return walk_heap(memory, pages, read_regions(pid))
    finally:
        memory.close()
        pages.close()


def usable_sizes(walk: HeapWalk) -> dict[int, int]:
    """The usable size of each live block, by address."""
    return dict(zip(walk.starts.tolist(), walk.sizes.tolist(), strict=True))


def said_sizes(path: Path) -> dict[int, int]:
    """What malloc_usable_size() said of each block."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {int(address, 16): int(usable) for address, _, usable in lines}


def is_claimed(walk: HeapWalk, address: int) -> bool:
    """Whether the address is in a piece that was walked."""
    place = int(np.searchsorted(walk.pieces[:, 0], address, "right")) - 1
    return place >= 0 and address < walk.pieces[place, 1]
