# SPDX-License-Identifier: Apache-2.0
"""The heap of one process: what it has allocated, what it has freed, and its live blocks."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.block_classes import BlockClasses
from kwatch.aggregate.block_events import BlockEvents, block_events
from kwatch.aggregate.blocks import Blocks, LiveBlocks, Mask
from kwatch.aggregate.older_frees import OlderFrees
from kwatch.aggregate.order import U64, Index
from kwatch.aggregate.outstanding import GroupStacks, Limits, amount, outstanding
from kwatch.aggregate.pairs import cancel_pairs, completed
from kwatch.aggregate.reallocs import OpenRealloc, match_reallocs
from kwatch.aggregate.releases import ReleaseTotals
from kwatch.aggregate.totals import AllocTotals
from kwatch.model.snapshot import HeapStats, StackTotals
from kwatch.wire.batches import chosen
from kwatch.wire.events import Batch, EventType, Types

#: Events processed at a time, to limit memory. A large chunk is faster: a block that begins and
#: ends in the same chunk costs least.
_CHUNK = 1 << 18

#: Bytes that an allocator adds to a small block, at most.
BLOCK_OVERHEAD = 32

_NO_LIMITS = Limits()

#: Blocks younger than the limit are listed if they have at least so many bytes.
_MANY_YOUNG = 1 << 20


class HeapAccount:
    """Takes the events of one process in order of time.

    `inherited + allocs - frees - superseded` is always the number of live blocks. `frees` counts
    known blocks only. `superseded` counts blocks whose address was allocated again although their
    free was not seen. A realloc ends its block at entry; if it fails, the block is restored. With
    `by_stack`, the account also counts what each stack has allocated. `peak_bytes` and
    `peak_blocks` are the most that were live at a time, up to what a chunk of events has released.
    `older_frees` are the unknown frees that may be of blocks from before the attach.
    While `learns_releases`, `releases` counts what each stack of a free has released.
    """

    def __init__(self, by_stack: bool = False) -> None:
        self._totals = AllocTotals() if by_stack else None
        self._live = LiveBlocks()
        self._open_reallocs: dict[int, OpenRealloc] = {}
        self.releases = ReleaseTotals()
        self.learns_releases = False
        self.inherited = 0
        self.allocs = 0
        self.alloc_bytes = 0
        self.frees = 0
        self.freed_bytes = 0
        self.unknown_frees = 0
        self.older_frees = OlderFrees()
        self.failed_allocs = 0
        self.superseded = 0
        self.peak_bytes = 0
        self.peak_blocks = 0

    def add(self, batch: Batch, types: Types) -> None:
        """Adds events of dtype `kwatch.wire.events.HEAP`; `types` are their `types_of`.

        Ignores types that do not concern blocks.
        """
        for start in range(0, len(batch), _CHUNK):
            self._add_chunk(batch[start : start + _CHUNK], types[start : start + _CHUNK])

    @property
    def live_count(self) -> int:
        """The number of live blocks."""
        return len(self._live)

    @property
    def live_bytes(self) -> int:
        """The sum of the live blocks' sizes."""
        return self._live.bytes

    def live_blocks(self) -> Blocks:
        """The live blocks by address, in read-only arrays."""
        return self._live.arrays()

    def held_blocks(self) -> Blocks:
        """The live blocks, in no order, with those that a realloc in progress has released."""
        live = self.live_blocks()
        if not self._open_reallocs:
            return live
        opened = [each.block for each in self._open_reallocs.values()]
        return Blocks(*map(np.concatenate, zip(live, *opened, strict=True)))

    def has_blocks(self, now_ns: int, limits: Limits) -> bool:
        """Whether a block is within the limits."""
        return amount(self._live.arrays(), now_ns, limits)[0] > 0

    def snapshot(
        self,
        now_ns: int,
        limits: Limits = _NO_LIMITS,
        same: GroupStacks | None = None,
        scan: BlockClasses | None = None,
    ) -> HeapStats:
        """The state now. `stacks`, without frames, lists the blocks within the limits; the other
        fields cover all blocks. `now_ns` is on the clock of the events. `scan`: the classes of the
        blocks.
        """
        live = self._live.arrays()
        young_limits = limits._replace(young=True)
        young_blocks, young_bytes = amount(live, now_ns, young_limits)
        is_much = young_bytes >= _MANY_YOUNG
        return HeapStats(
            live_bytes=self._live.bytes,
            live_blocks=len(self._live),
            allocs=self.allocs,
            alloc_bytes=self.alloc_bytes,
            frees=self.frees,
            freed_bytes=self.freed_bytes,
            unknown_frees=self.unknown_frees,
            failed_allocs=self.failed_allocs,
            inherited=self.inherited,
            superseded=self.superseded,
            young_bytes=young_bytes,
            young_blocks=young_blocks,
            stacks=outstanding(live, now_ns, limits, same, scan),
            young_stacks=outstanding(live, now_ns, young_limits, same, scan) if is_much else (),
        )

    def by_stack(self) -> list[StackTotals]:
        """What each stack has allocated and still has live, without frames.

        Without the option `by_stack`, only what is live is known.
        """
        totals = AllocTotals() if self._totals is None else self._totals
        return totals.with_live(self._live.arrays())

    @property
    def explained_bytes(self) -> int:
        """How much memory the blocks that were live at a time can have needed.

        Allocators round sizes up and keep what was freed.
        """
        return self.peak_bytes * 3 // 2 + self.peak_blocks * BLOCK_OVERHEAD

    def fork(self) -> HeapAccount:
        """The account of a new child: it has the live blocks, and its counts are 0."""
        child = HeapAccount(self._totals is not None)
        child._live = self._live.copy()
        child.inherited = child.peak_blocks = len(child._live)
        child.peak_bytes = child._live.bytes
        return child

    def exec(self) -> None:
        """Starts again at zero: a new program has a new heap."""
        learns_releases = self.learns_releases
        vars(self).update(vars(HeapAccount(self._totals is not None)))
        self.learns_releases = learns_releases

    def _add_chunk(self, batch: Batch, types: Types) -> None:
        events = block_events(batch, types)
        largest = 0
        if len(events.types) < len(types):
            self.failed_allocs += int(np.count_nonzero(types == EventType.ALLOC_FAILED))
            largest = self._add_pairs(chosen(batch, types == EventType.PAIRS))
            if self.learns_releases:
                self._add_releases(chosen(batch, types == EventType.RELEASES))
        if self._open_reallocs or events.types.max(initial=0) > EventType.REUSED:
            events = self._settle_reallocs(events)
        if len(events.types):
            self._apply(events, largest)
        else:
            self._note_peak(0, 0, largest)

    def _add_pairs(self, pairs: Batch) -> int:
        """Counts blocks that the kernel has seen begin and end; returns the largest size."""
        if not len(pairs):
            return 0
        counts, sizes = pairs["tid"].astype(np.int64), pairs["size"]
        blocks, size = int(counts.sum()), int(sizes.sum())
        self.allocs += blocks
        self.frees += blocks
        self.alloc_bytes += size
        self.freed_bytes += size
        if self._totals is not None:
            self._totals.add(pairs["stack"], sizes, counts)
        return int(pairs["address"].max())

    def _add_releases(self, sums: Batch) -> None:
        counts = sums["tid"].astype(np.int64)
        self.releases.add(sums["stack"], sums["address"], sums["size"], counts)

    def _apply(self, events: BlockEvents, largest: int) -> None:
        """Counts the events. Every type but ALLOC is a release.

        `largest`: the size of a block of the same chunk that has no events.
        """
        events, reused = events.with_reused()
        is_alloc = events.types == EventType.ALLOC.value  # an IntEnum makes numpy widen the types
        left = cancel_pairs(events.addresses, is_alloc)
        allocs = int(np.count_nonzero(is_alloc))
        alloc_bytes = int(events.sizes.sum())  # releases have none
        blocks = events.blocks(left.begun)
        self.allocs += allocs
        self.alloc_bytes += alloc_bytes
        self.frees += allocs - len(left.begun) - len(left.superseded)
        self.allocs -= len(reused)  # PAIRS have counted them
        self.frees -= len(reused)
        if self._totals is not None:
            is_counted = is_alloc.copy()
            is_counted[reused] = False
            self._totals.add(events.stacks[is_counted], events.sizes[is_counted])
        self.freed_bytes += alloc_bytes - int(blocks.sizes.sum())
        self.freed_bytes -= int(events.sizes[left.superseded].sum())
        self.unknown_frees += left.repeated
        self.superseded += len(left.superseded)
        self.superseded += self._live.discard(events.addresses[left.passing])[0]
        largest = max(largest, int(events.sizes.max()))
        self._note_peak(len(blocks.sizes), int(blocks.sizes.sum()), largest)
        if self.learns_releases:
            self._learn_releases(events, is_alloc, left.ended)
        self._end(events.addresses[left.ended])
        self._begin(blocks)

    def _note_peak(self, begun: int, begun_bytes: int, largest: int) -> None:
        """Counts the largest block of the chunk, too: it may have ended in the same chunk."""
        self.peak_bytes = max(self.peak_bytes, self._live.bytes + begun_bytes + largest)
        self.peak_blocks = max(self.peak_blocks, len(self._live) + begun)

    def _learn_releases(self, events: BlockEvents, is_alloc: Mask, ended: Index) -> None:
        """`ended`: the releases of blocks that began before the chunk and are still live."""
        begun, released = completed(events.addresses, is_alloc)
        stacks, times = events.stacks, events.times
        self.releases.add(stacks[begun], stacks[released], times[released] - times[begun])
        known, _, allocs, began = self._live.find(events.addresses[ended])
        ended = ended[known]
        self.releases.add(allocs[known], stacks[ended], times[ended] - began[known])

    def _begin(self, blocks: Blocks) -> None:
        self.superseded += self._live.insert(*blocks)

    def _end(self, addresses: U64) -> None:
        known, total = self._live.end(addresses)
        unknown = addresses[~known]
        self.frees += len(addresses) - len(unknown)
        self.freed_bytes += total
        self.unknown_frees += len(unknown)
        self.older_frees.add(unknown)

    def _settle_reallocs(self, events: BlockEvents) -> BlockEvents:
        """Undoes the releases of failed reallocs. Returns all other events but REALLOC_KEEP."""
        reallocs = match_reallocs(events)
        for index in reallocs.orphans:
            self._restore(int(events.tids[index]), int(events.addresses[index]))
        for tid in self._open_reallocs.keys() & set(reallocs.threads.tolist()):
            del self._open_reallocs[tid]
        for index in reallocs.open.tolist():
            tid = int(events.tids[index])
            self._open_reallocs[tid] = self._open_realloc(events, reallocs.stands, index)
        if reallocs.stands.all():
            return events
        return events.at(np.flatnonzero(reallocs.stands))

    def _open_realloc(self, events: BlockEvents, stands: Mask, index: int) -> OpenRealloc:
        """What to restore if the realloc of the release at `index` fails."""
        address = events.addresses[index : index + 1]
        same = (events.addresses[:index] == address) & stands[:index]
        earlier = np.flatnonzero(same)[-1:]
        if len(earlier):
            was_live = events.types[earlier] == EventType.ALLOC
            return OpenRealloc(int(address[0]), events.blocks(earlier[was_live]))
        found, sizes, stacks, times = self._live.find(address)
        return OpenRealloc(int(address[0]), Blocks(address, sizes, stacks, times).where(found))

    def _restore(self, tid: int, address: int) -> None:
        """Restores the block of a realloc that was open at the end of the last batch."""
        opened = self._open_reallocs.pop(tid, None)
        if opened is None or opened.address != address:
            return
        known = len(opened.block.addresses)
        self.frees -= known
        self.freed_bytes -= int(opened.block.sizes.sum())
        self.unknown_frees -= 1 - known
        self._begin(opened.block)
