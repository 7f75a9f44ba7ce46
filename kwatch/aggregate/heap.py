# SPDX-License-Identifier: Apache-2.0
"""The heap of one process: what it has allocated, what it has freed, and its live blocks."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.block_events import BlockEvents, block_events
from kwatch.aggregate.blocks import Blocks, LiveBlocks, Mask
from kwatch.aggregate.order import U64
from kwatch.aggregate.outstanding import GroupStacks, Limits, amount, outstanding
from kwatch.aggregate.pairs import cancel_pairs
from kwatch.aggregate.reallocs import OpenRealloc, match_reallocs
from kwatch.aggregate.totals import AllocTotals
from kwatch.model.snapshot import HeapStats, StackTotals
from kwatch.wire.events import Batch, EventType, Types

#: Events processed at a time, to limit memory. A large chunk is faster: a block that begins and
#: ends in the same chunk costs least.
_CHUNK = 1 << 18

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
    """

    def __init__(self, by_stack: bool = False) -> None:
        self._totals = AllocTotals() if by_stack else None
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
        self.peak_bytes = 0
        self.peak_blocks = 0

    def add(self, batch: Batch, types: Types) -> None:
        """Adds events of dtype `kwatch.wire.events.HEAP`; `types` are their `types_of`.

        Ignores types that do not concern blocks.
        """
        for start in range(0, len(batch), _CHUNK):
            self._add_chunk(batch[start : start + _CHUNK], types[start : start + _CHUNK])

    @property
    def live_bytes(self) -> int:
        """The sum of the live blocks' sizes."""
        return self._live.bytes

    def live_blocks(self) -> Blocks:
        """The live blocks by address, in read-only arrays."""
        return self._live.arrays()

    def snapshot(
        self, now_ns: int, limits: Limits = _NO_LIMITS, same: GroupStacks | None = None
    ) -> HeapStats:
        """The state now. `stacks`, without frames, lists the blocks within the limits; the other
        fields cover all blocks. `now_ns` is on the clock of the events.
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
            stacks=outstanding(live, now_ns, limits, same),
            young_stacks=outstanding(live, now_ns, young_limits, same) if is_much else (),
        )

    def by_stack(self) -> list[StackTotals]:
        """What each stack has allocated and still has live, without frames.

        Without the option `by_stack`, only what is live is known.
        """
        totals = AllocTotals() if self._totals is None else self._totals
        return totals.with_live(self._live.arrays())

    def fork(self) -> HeapAccount:
        """The account of a new child: it has the live blocks, and its counts are 0."""
        child = HeapAccount(self._totals is not None)
        child._live = self._live.copy()
        child.inherited = child.peak_blocks = len(child._live)
        child.peak_bytes = child._live.bytes
        return child

    def exec(self) -> None:
        """Starts again at zero: a new program has a new heap."""
        vars(self).update(vars(HeapAccount(self._totals is not None)))

    def _add_chunk(self, batch: Batch, types: Types) -> None:
        events = block_events(batch, types)
        if len(events.types) < len(types):
            self.failed_allocs += int(np.count_nonzero(types == EventType.ALLOC_FAILED))
        if self._open_reallocs or events.types.max(initial=0) > EventType.FREE:
            events = self._settle_reallocs(events)
        if len(events.types):
            self._apply(events)

    def _apply(self, events: BlockEvents) -> None:
        """Counts the events. Every type but ALLOC is a release."""
        is_alloc = events.types == EventType.ALLOC.value  # an IntEnum makes numpy widen the types
        left = cancel_pairs(events.addresses, is_alloc)
        allocs = int(np.count_nonzero(is_alloc))
        alloc_bytes = int(events.sizes.sum())  # releases have none
        blocks = events.blocks(left.begun)
        self.allocs += allocs
        self.alloc_bytes += alloc_bytes
        if self._totals is not None:
            self._totals.add(events.stacks[is_alloc], events.sizes[is_alloc])
        self.frees += allocs - len(left.begun) - len(left.superseded)
        self.freed_bytes += alloc_bytes - int(blocks.sizes.sum())
        self.freed_bytes -= int(events.sizes[left.superseded].sum())
        self.unknown_frees += left.repeated
        self.superseded += len(left.superseded)
        self.superseded += self._live.discard(events.addresses[left.passing])[0]
        self._note_peak(events, blocks)
        self._end(events.addresses[left.ended])
        self._begin(blocks)

    def _note_peak(self, events: BlockEvents, begun: Blocks) -> None:
        """Counts the largest block of the chunk, too: it may have ended in the same chunk."""
        size = self._live.bytes + int(begun.sizes.sum()) + int(events.sizes.max(initial=0))
        self.peak_bytes = max(self.peak_bytes, size)
        self.peak_blocks = max(self.peak_blocks, len(self._live) + len(begun.sizes))

    def _begin(self, blocks: Blocks) -> None:
        self.superseded += self._live.insert(*blocks)

    def _end(self, addresses: U64) -> None:
        known, total = self._live.discard(addresses)
        self.frees += known
        self.freed_bytes += total
        self.unknown_frees += len(addresses) - known

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
