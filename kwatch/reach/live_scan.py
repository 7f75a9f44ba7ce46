# SPDX-License-Identifier: Apache-2.0
"""One scan of a process, while it runs or of what it has left behind."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from kwatch.reach.block_table import JUDGED, SCANNED, Table
from kwatch.reach.heaps.heap_walk import HeapWalk, walk_heap
from kwatch.reach.kernel_words import kernel_words
from kwatch.reach.layout import HeapLayout, layout
from kwatch.reach.leaders import leaders
from kwatch.reach.left_state import LeftState
from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.ranges import batches
from kwatch.reach.regions import Region, read_regions
from kwatch.reach.scan import Scan, scan
from kwatch.reach.thread_state import ThreadState
from kwatch.reach.threads import read_threads

_BATCH = 1 << 20
_MAX_WALKS = 100  # while the mappings change; one that finds no heap is quick
_PAUSES = (0, 0.001, 0.004, 0.016)  # seconds, between walks of the same mappings


@dataclass(frozen=True, slots=True)
class LiveScan:
    """`is_walked`: the blocks come from the allocator's own structures, not from the map alone.

    `unwalked`: parts of its heap that could not be walked. They count as roots. `unreadable`: bytes
    that could not be read.
    """

    scan: Scan
    is_walked: bool
    unwalked: tuple[str, ...]
    threads: Sequence[ThreadState]
    unreadable: int
    seconds: float

    @property
    def blind_threads(self) -> int:
        """The threads whose registers are not known."""
        return sum(not thread.has_registers for thread in self.threads)

    def table(self) -> Table:
        """The blocks, as rows of dtype SCANNED."""
        found = self.scan
        rows = np.empty(len(found.layout.starts), SCANNED)
        rows["address"], rows["size"] = found.layout.starts, found.layout.sizes
        rows["reach"], rows["stack_only"] = found.classes, found.stack_only
        rows["exact"] = found.layout.exact
        return rows

    def with_leaders(self, result: Table) -> Table:
        """The rows of dtype JUDGED. `result`: the same blocks after all scans, of dtype SCANNED."""
        rows = np.empty(len(result), JUDGED)
        for name in SCANNED.names or ():
            rows[name] = result[name]
        rows["leader"] = result["address"][leaders(self.scan.graph, result["reach"])]
        return rows


def scan_live(
    pid: int,
    known: Table | None,
    ask_kernel: bool = False,
    stopped: Sequence[ThreadState] | None = None,
) -> LiveScan:
    """`known`: the outstanding blocks that kwatch knows, as rows of dtype KNOWN. With `ask_kernel`,
    what only the kernel holds counts too. `stopped`: all threads, if they are stopped.

    Raises OSError if the process cannot be read, LookupError if it has ended.
    """
    began = time.monotonic()
    with closing(TargetMemory(pid)) as memory, closing(PageMap(pid)) as pages:
        regions, walk = _walked(pid, memory, pages)
        if not regions:
            raise LookupError(f"process {pid} has ended")
        threads = read_threads(pid) if stopped is None else stopped
        in_kernel = kernel_words(pid) if ask_kernel else []
        found = scan(memory, pages, regions, _layout(walk, known), threads, in_kernel)
        return _live_scan(found, walk, threads, (memory, pages), began)


def _walked(pid: int, memory: TargetMemory, pages: PageMap) -> tuple[list[Region], HeapWalk | None]:
    """The mappings of a process and the blocks in them.

    A heap whose end is in no mapping is not recognized: it grew after its mappings were listed. It
    may have shrunk again when they are compared.
    """
    regions = read_regions(pid)
    unchanged = 0
    for _ in range(_MAX_WALKS):
        walk = walk_heap(memory, pages, regions)
        if walk is not None or unchanged == len(_PAUSES):
            break
        time.sleep(_PAUSES[unchanged])
        before, regions = regions, read_regions(pid)
        unchanged = unchanged + 1 if regions == before else 0
    return regions, walk


def scan_left(
    memory: TargetMemory, pages: PageMap, left: LeftState, known: Table | None
) -> LiveScan:
    """Scans the memory that a process has left behind, which nothing changes any more.

    Raises OSError if it is not held any more.
    """
    began = time.monotonic()
    walk = walk_heap(memory, pages, left.regions)
    found = scan(memory, pages, left.regions, _layout(walk, known), left.threads)
    return _live_scan(found, walk, left.threads, (memory, pages), began)


def _layout(walk: HeapWalk | None, known: Table | None) -> HeapLayout:
    return layout(walk, None if known is None else (known["address"], known["size"]))


def _live_scan(
    found: Scan,
    walk: HeapWalk | None,
    threads: Sequence[ThreadState],
    source: tuple[TargetMemory, PageMap],
    began: float,
) -> LiveScan:
    unwalked = walk.unwalked if walk is not None else ()
    unreadable = still_unreadable(*source, found.unreadable)
    unreadable += sum(end - start for start, end in source[1].skipped())
    seconds = time.monotonic() - began
    return LiveScan(found, walk is not None, unwalked, threads, unreadable, seconds)


def still_unreadable(
    memory: TargetMemory, pages: PageMap, ranges: Iterable[tuple[int, int]]
) -> int:
    """How many bytes of these ranges cannot be read now; not those that are unmapped by now."""
    into = np.empty(2 * _BATCH, np.uint8)
    count = 0
    for start, end in ranges:
        for part in batches(pages.resident(start, end, shared=True), _BATCH):
            size = int((part[:, 1] - part[:, 0]).sum())
            count += sum(last - first for first, last in memory.read(part, into[:size]))
    return count
