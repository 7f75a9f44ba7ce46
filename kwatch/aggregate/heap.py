# SPDX-License-Identifier: Apache-2.0
"""The heap of one process: what it allocated, freed, and still holds."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.blocks import Blocks, LiveBlocks
from kwatch.aggregate.order import U64
from kwatch.aggregate.outstanding import outstanding
from kwatch.aggregate.pairs import cancel_pairs
from kwatch.aggregate.reallocs import OpenRealloc, match_reallocs
from kwatch.events import Batch, EventType
from kwatch.snapshot import HeapStats

#: Events handled at a time: their columns fit into the processor's cache.
_CHUNK = 1 << 16

_IS_BLOCK_EVENT = np.zeros(256, bool)
_IS_BLOCK_EVENT[
    [EventType.ALLOC, EventType.FREE, EventType.REALLOC_RELEASE, EventType.REALLOC_KEEP]
] = True


class HeapAccount:
    """Takes the events of one process in the order of time.

    `inherited + allocs - frees - superseded` is always the number of live blocks. `frees` counts
    known blocks only; `superseded` counts blocks whose address was given out again although their
    free was not seen. A realloc ends its block when it is entered; if it fails, the block is put
    back as it was.
    """

    def __init__(self) -> None:
        self._live = LiveBlocks()
        self._open_reallocs: dict[int, OpenRealloc] = {}
        self.inherited = 0
        self.allocs = 0
        self.alloc_bytes = 0
        self.frees = 0
        self.freed_bytes = 0
        self.unknown_frees = 0
        self.failed_allocs = 0
        self.superseded = 0

    def add(self, batch: Batch) -> None:
        """Events of dtype `kwatch.events.HEAP`; types that concern no block are ignored."""
        for start in range(0, len(batch), _CHUNK):
            self._add_chunk(batch[start : start + _CHUNK])

    def live_blocks(self) -> Blocks:
        """The live blocks by address, in arrays that must not be written."""
        return self._live.arrays()

    def snapshot(
        self,
        now_ns: int,
        older_ns: int = 0,
        min_size: int = 0,
        max_size: int | None = None,
        top: int = 10,
    ) -> HeapStats:
        """`stacks` (without frames) lists blocks at least `older_ns` old and within the sizes.

        Everything else covers all blocks. `now_ns` is on the clock of the events.
        """
        blocks = self._live.arrays()
        return HeapStats(
            live_bytes=self._live.bytes,
            live_blocks=len(self._live),
            allocs=self.allocs,
            alloc_bytes=self.alloc_bytes,
            frees=self.frees,
            freed_bytes=self.freed_bytes,
            unknown_frees=self.unknown_frees,
            failed_allocs=self.failed_allocs,
            stacks=outstanding(blocks, now_ns, older_ns, min_size, max_size, top),
        )

    def fork(self) -> HeapAccount:
        """The account of a new child: it has the live blocks and has done nothing yet."""
        child = HeapAccount()
        child._live = self._live.copy()
        child.inherited = len(child._live)
        return child

    def exec(self) -> None:
        """A new program image has a new heap: everything begins at zero."""
        self.__init__()  # type: ignore[misc]

    def _add_chunk(self, batch: Batch) -> None:
        kinds = np.bincount(batch["type"], minlength=len(_IS_BLOCK_EVENT))
        self.failed_allocs += int(kinds[EventType.ALLOC_FAILED])
        if not _IS_BLOCK_EVENT[np.flatnonzero(kinds)].all():
            batch = batch[_IS_BLOCK_EVENT.take(batch["type"])]
        has_realloc = kinds[EventType.REALLOC_RELEASE] or kinds[EventType.REALLOC_KEEP]
        if has_realloc or self._open_reallocs:
            batch = self._settle_reallocs(batch)
        if len(batch):
            self._apply(batch)

    def _apply(self, batch: Batch) -> None:
        """ALLOC, and any other type as a release."""
        is_alloc = batch["type"] == EventType.ALLOC
        sizes = np.ascontiguousarray(batch["size"])
        left = cancel_pairs(np.ascontiguousarray(batch["address"]), is_alloc)
        allocs = int(np.count_nonzero(is_alloc))
        alloc_bytes = int((sizes * is_alloc).sum())
        self.allocs += allocs
        self.alloc_bytes += alloc_bytes
        self.frees += allocs - len(left.begun) - len(left.superseded)
        self.freed_bytes += alloc_bytes - int(sizes[left.begun].sum())
        self.freed_bytes -= int(sizes[left.superseded].sum())
        self.unknown_frees += left.repeated
        self.superseded += len(left.superseded)
        self._end(batch["address"][left.ended])
        self._begin(_blocks_of(batch[left.begun]))

    def _begin(self, blocks: Blocks) -> None:
        self.superseded += self._live.insert(*blocks)

    def _end(self, addresses: U64) -> None:
        found, sizes, _, _ = self._live.remove(addresses)
        known = int(np.count_nonzero(found))
        self.frees += known
        self.freed_bytes += int(sizes.sum())
        self.unknown_frees += len(addresses) - known

    def _settle_reallocs(self, batch: Batch) -> Batch:
        """Undo the releases that were taken back; the rest of the batch, without KEEP events."""
        reallocs = match_reallocs(batch)
        for event in batch[reallocs.orphans]:
            self._take_back(int(event["tid"]), int(event["address"]))
        for tid in self._open_reallocs.keys() & set(reallocs.threads.tolist()):
            del self._open_reallocs[tid]
        rest = np.flatnonzero(reallocs.stands)
        batch = batch[rest]
        for index in rest.searchsorted(reallocs.open):
            self._open_reallocs[int(batch["tid"][index])] = self._open_realloc(batch, int(index))
        return batch

    def _open_realloc(self, batch: Batch, index: int) -> OpenRealloc:
        """What to put back if the release at `index` of a batch not yet applied is taken back."""
        address = batch["address"][index : index + 1]
        earlier = np.flatnonzero(batch["address"][:index] == address)[-1:]
        if len(earlier):
            was_live = batch["type"][earlier] == EventType.ALLOC
            return OpenRealloc(int(address[0]), _blocks_of(batch[earlier]).where(was_live))
        found, sizes, stacks, times = self._live.find(address)
        return OpenRealloc(int(address[0]), Blocks(address, sizes, stacks, times).where(found))

    def _take_back(self, tid: int, address: int) -> None:
        """The realloc that was open when the last batch ended has failed."""
        opened = self._open_reallocs.pop(tid, None)
        if opened is None or opened.address != address:
            return
        known = len(opened.block.addresses)
        self.frees -= known
        self.freed_bytes -= int(opened.block.sizes.sum())
        self.unknown_frees -= 1 - known
        self._begin(opened.block)


def _blocks_of(batch: Batch) -> Blocks:
    """The blocks that ALLOC events began, in columns of their own."""
    names = ("address", "size", "stack", "time_ns")
    return Blocks(*(np.ascontiguousarray(batch[name]) for name in names))
