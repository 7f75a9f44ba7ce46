# SPDX-License-Identifier: Apache-2.0
"""Watches the blocks of an allocation site, one after another.

The watchpoint moves when the block ends. Events of blocks and hits have one clock: a hit counts if
the block was live then, whatever has happened before the watchpoint moved.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from kwatch.kernel.breakpoints import Breakpoint
from kwatch.processes.process import Process
from kwatch.programs.sources import HEAP
from kwatch.symbols.stack import Stack
from kwatch.watchpoints.blocks.stacks import SiteStacks
from kwatch.watchpoints.fixed import default_length
from kwatch.watchpoints.options import WatchOptions
from kwatch.watchpoints.watched import Watched
from kwatch.watchpoints.watchpoint import Watchpoint
from kwatch.wire.events import Batch, EventType

_MAX_LIVE = 512  # the youngest blocks that may be watched next
_MAX_TURNS = 4096  # that are kept; hits of older ones have been delivered
_MAX_GAPS = 10_000
_KINDS = (
    EventType.ALLOC,
    EventType.FREE,
    EventType.REUSED,
    EventType.REALLOC_RELEASE,
    EventType.REALLOC_KEEP,
    EventType.MAP,
)


@dataclass(slots=True)
class Block:
    """`allocated_ns`: of a freed block, which began when it was freed; else 0."""

    address: int
    size: int
    stack: int
    began_ns: int
    allocated_ns: int = 0


@dataclass(slots=True)
class _Turn:
    """A block's turn at the watchpoint; `ended_ns` is when the block ended, 0 while it lives."""

    block: Block
    watched: Breakpoint
    armed_ns: int
    ended_ns: int = 0


@dataclass(slots=True)
class Coverage:
    """`blocks` were watched, for `watched_ns` while they lived. `gaps_ns`: for those that the
    watchpoint was moved to, how long they had lived then.
    """

    blocks: int
    watched_ns: int
    gaps_ns: list[int]


class BlockWatch:
    """Watches the youngest live block of the site that has the bytes of the site's offset."""

    def __init__(self, options: WatchOptions, watchpoint: Watchpoint) -> None:
        self.stacks = SiteStacks(options.site)
        self._options = options
        self._watchpoint = watchpoint
        self._live: dict[int, Block] = {}  # by address, the youngest last
        self._turns: list[_Turn] = []  # in order of time
        self._watched_ns = 0
        self._gaps_ns: list[int] = []
        self.turns = 0  # how many blocks have been watched
        self._mm_id = 0
        self._program_ns = 0  # blocks from before are of an earlier program

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        self.stacks.add(identity, stack)

    def on_batch(self, source: str, batch: Batch) -> None:
        if source != HEAP:
            return
        columns = ("type", "address", "size", "stack", "time_ns")
        chosen = batch[np.isin(batch["type"], _KINDS)]
        for kind, *values in zip(*(chosen[name].tolist() for name in columns), strict=True):
            self._apply(kind, Block(*values))

    def _apply(self, kind: int, block: Block) -> None:
        """An event of a block; that of an end has no size and no stack."""
        self._end(block.address, block.began_ns)
        if kind == EventType.ALLOC and self.stacks.matches(block.stack) is not False:
            self._add(block)

    def _add(self, block: Block) -> None:
        """A block that may be watched from now on."""
        if block.began_ns < self._program_ns:
            return
        self._live[block.address] = block
        if len(self._live) > _MAX_LIVE:
            del self._live[next(iter(self._live))]
        self._stay(block)

    def arm(self, pid: int, mm_id: int) -> bool:
        self._see_exec(mm_id)
        del self._turns[:-_MAX_TURNS]
        turn = self._turns[-1] if self._turns else None
        if turn is not None and not turn.ended_ns:
            return True
        block = self._next()
        if block is None:
            self._watchpoint.disarm()
            return False
        watched = self._bytes_of(block)
        assert watched is not None
        self._watchpoint.arm(pid, mm_id, watched)
        armed_ns = self._watchpoint.armed_ns
        self._begin(block, watched, armed_ns)
        if len(self._gaps_ns) < _MAX_GAPS:
            self._gaps_ns.append(armed_ns - block.began_ns)
        return True

    def _begin(self, block: Block, watched: Breakpoint, armed_ns: int) -> None:
        self._turns.append(_Turn(block, watched, armed_ns))
        self.turns += 1

    def _stay(self, block: Block) -> None:
        """A new block of the site where the watchpoint still is: it is watched from its begin."""
        is_free = bool(self._turns) and self._turns[-1].ended_ns > 0
        watched = self._watchpoint.current
        is_of_site = watched is not None and self.stacks.matches(block.stack)
        if is_free and watched is not None and is_of_site and watched == self._bytes_of(block):
            self._begin(block, watched, block.began_ns)

    def watched_at(self, time_ns: int) -> Watched | None:
        index = bisect_right(self._turns, time_ns, key=lambda turn: turn.armed_ns) - 1
        turn = self._turns[max(index, 0)] if self._turns else None
        if turn is None or (turn.ended_ns and time_ns >= turn.ended_ns):
            return None
        block = turn.block
        since_ns = block.allocated_ns or block.began_ns
        return Watched(turn.watched, block.stack, block.size, block.stack, since_ns)

    @property
    def are_too_small(self) -> bool:
        """Whether a block of the site lives, and none has the bytes."""
        of_site = [each for each in self._live.values() if self.stacks.matches(each.stack)]
        return bool(of_site) and not any(map(self._bytes_of, of_site))

    @property
    def now(self) -> Watched | None:
        """What is watched now, if the block lives."""
        return self.watched_at(time.monotonic_ns())

    def coverage(self) -> Coverage:
        """Until now."""
        turn, watched_ns = self._turns[-1] if self._turns else None, self._watched_ns
        if turn is not None and not turn.ended_ns:
            watched_ns += time.monotonic_ns() - turn.armed_ns
        return Coverage(self.turns, watched_ns, self._gaps_ns)

    def _end(self, address: int, time_ns: int) -> None:
        self._live.pop(address, None)
        turn = self._turns[-1] if self._turns else None
        is_watched = turn is not None and turn.block.address == address and not turn.ended_ns
        if turn is not None and is_watched and time_ns > turn.block.began_ns:
            turn.ended_ns = time_ns
            self._watched_ns += max(time_ns - turn.armed_ns, 0)

    def _next(self) -> Block | None:
        """The youngest live block that can be watched."""
        for block in reversed(self._live.values()):
            if self.stacks.matches(block.stack) and self._bytes_of(block) is not None:
                return block
        return None

    def _bytes_of(self, block: Block) -> Breakpoint | None:
        site = self._options.site
        address, room = block.address + site.offset, block.size - site.offset
        length = site.length or default_length(address, room)
        if room < length or address % length:
            return None
        return Breakpoint(address, length, self._options.access)

    def _see_exec(self, mm_id: int) -> None:
        if mm_id != self._mm_id and self._mm_id:
            self._live.clear()
            self._program_ns = time.monotonic_ns()
            if self._turns:
                self._end(self._turns[-1].block.address, time.monotonic_ns())
            self._watchpoint.drop()
        self._mm_id = mm_id
