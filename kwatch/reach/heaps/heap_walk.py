# SPDX-License-Identifier: Apache-2.0
"""Lists the live blocks of a process from its allocator's own structures."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.reach.heaps import glibc
from kwatch.reach.heaps.heap import HeapWalk
from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import Region


def walk_heap(memory: TargetMemory, pages: PageMap, regions: Sequence[Region]) -> HeapWalk | None:
    """None if the allocator is not one whose heap kwatch can walk: only glibc's is."""
    return glibc.walk(memory, pages, regions)


__all__ = ["HeapWalk", "walk_heap"]
