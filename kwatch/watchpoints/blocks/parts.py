# SPDX-License-Identifier: Apache-2.0
"""Watches blocks after their end, or the bytes behind them."""

from __future__ import annotations

from dataclasses import replace

from kwatch.kernel.breakpoints import Breakpoint
from kwatch.watchpoints.blocks.watch import Block, BlockWatch
from kwatch.watchpoints.options import WatchOptions
from kwatch.watchpoints.site import LENGTHS, Part
from kwatch.watchpoints.watchpoint import Watchpoint
from kwatch.wire.events import EventType

_MAX_OF_SITE = 100_000  # live blocks that are remembered
_WORD = 8  # every allocator aligns blocks to so many bytes


class FreedWatch(BlockWatch):
    """Watches the block that was freed last, until any block is given out where it was.

    A block's `began_ns` is then when it was freed. The events must have every block.
    """

    def __init__(self, options: WatchOptions, watchpoint: Watchpoint) -> None:
        super().__init__(options, watchpoint)
        self._of_site: dict[int, Block] = {}

    def _apply(self, kind: int, block: Block) -> None:
        if kind in (EventType.FREE, EventType.REALLOC_RELEASE):
            freed = self._of_site.pop(block.address, None)
            if freed is not None and self.stacks.matches(freed.stack) is not False:
                self._add(replace(freed, began_ns=block.began_ns, allocated_ns=freed.began_ns))
            return
        self._give_out(block)
        self._of_site.pop(block.address, None)  # its free was lost, or another program made it
        if kind == EventType.ALLOC and self.stacks.matches(block.stack) is not False:
            self._of_site[block.address] = block
            if len(self._of_site) > _MAX_OF_SITE:
                del self._of_site[next(iter(self._of_site))]

    def _give_out(self, block: Block) -> None:
        """Ends the freed blocks that this one touches; it may lie across several.

        Also a mapping: the memory of large blocks goes back to the kernel.
        """
        end = block.address + max(block.size, 1)
        for freed in list(self._live.values()):
            if freed.address < end and block.address < freed.address + freed.size:
                self._end(freed.address, block.began_ns)


class EndWatch(BlockWatch):
    """Watches what is behind a block: bytes that it was not asked for, or the next one's header.

    Only glibc has a header there: behind blocks of other allocators may be the next block.
    """

    def __init__(self, options: WatchOptions, watchpoint: Watchpoint) -> None:
        super().__init__(options, watchpoint)
        self.has_headers = False

    def _bytes_of(self, block: Block) -> Breakpoint | None:
        address = block.address + block.size
        room = -block.size % _WORD or (_WORD if self.has_headers else 0)
        fitting = [each for each in LENGTHS if each <= room and not address % each]
        return Breakpoint(address, fitting[-1], self._options.access) if fitting else None


def watch_blocks(options: WatchOptions, watchpoint: Watchpoint) -> BlockWatch:
    """The watch for a part of the blocks."""
    kinds = {Part.LIVE: BlockWatch, Part.FREED: FreedWatch, Part.END: EndWatch}
    return kinds[options.site.part](options, watchpoint)
