# SPDX-License-Identifier: Apache-2.0
"""Which block points to which, and what can be reached from where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import Index

#: A pointer as the number of its block times two, plus one if it does not count as a pointer to the
#: block's start.
Codes = npt.NDArray[np.uint32]
Marks = npt.NDArray[np.uint8]

INTERIOR = np.uint32(1)
#: Pointers that are followed at once.
_PIECE = 1 << 16
#: Up to this many blocks are followed one by one: arrays cost more for so few. It goes on until
#: this many wait.
_MAX_NARROW, _MIN_WIDE = 128, 4096
#: What stays narrow for so many blocks, and for this part of all, is probably a chain.
_MIN_CHAIN, _CHAIN_PART = 4096, 256
#: If doubling fails to follow a chain, the next attempt comes so many times later.
_MORE_PATIENCE = 16
#: After so many doublings, a chain shows.
_TRIAL = 6


@dataclass(frozen=True, slots=True)
class PointerGraph:
    """The pointers that block i holds are `codes[first[i]:first[i + 1]]`."""

    first: Index
    codes: Codes

    def __len__(self) -> int:
        return len(self.first) - 1

    def pointers_of(self, blocks: Index) -> Iterator[tuple[Index, Codes]]:
        """In bounded pieces: the blocks that hold the pointers, and the pointers."""
        for start in range(0, len(blocks), _PIECE):
            yield from self._pieces_of(blocks[start : start + _PIECE])

    def _pieces_of(self, blocks: Index) -> Iterator[tuple[Index, Codes]]:
        counts = self.first[blocks + 1] - self.first[blocks]
        large = counts > _PIECE
        for block in blocks[large].tolist():
            for start in range(int(self.first[block]), int(self.first[block + 1]), _PIECE):
                codes = self.codes[start : min(start + _PIECE, int(self.first[block + 1]))]
                yield np.full(len(codes), block), codes
        if large.any():
            blocks, counts = blocks[~large], counts[~large]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        cuts = ends.searchsorted(np.arange(_PIECE, total + _PIECE, _PIECE), "left") + 1
        done = 0
        for cut in np.minimum(cuts, len(blocks)).tolist():
            if cut > done:
                yield self._pointers_at(blocks[done:cut], counts[done:cut])
                done = cut

    def _pointers_at(self, blocks: Index, counts: Index) -> tuple[Index, Codes]:
        before = np.cumsum(counts) - counts
        at = np.repeat(self.first[blocks] - before, counts)
        at += np.arange(len(at))
        return np.repeat(blocks, counts), self.codes[at]


class Search:
    """Marks the blocks that can be reached. `marks` has 0 for each block that is not reached yet.

    Many blocks are followed with arrays, few one by one, and a chain by doubling: the blocks that
    are 1, 2, 4 ... pointers further on.
    """

    def __init__(self, graph: PointerGraph, marks: Marks, starts_only: bool = False) -> None:
        """With `starts_only`, interior pointers are not followed."""
        self._graph = graph
        self._marks = marks
        self._skipped = int(INTERIOR) if starts_only else 0
        self._views = graph.first.data, graph.codes.data, marks.data
        self._order: npt.NDArray[np.uint32] | None = None
        self._patience = max(_MIN_CHAIN, len(graph) // _CHAIN_PART)

    def mark(self, seeds: Index) -> None:
        """Marks the seeds that have no mark, and what they reach through others without one."""
        self._spread(self._mark_unmarked(seeds))

    def mark_from(self, block: int) -> None:
        """The same for one block that has no mark."""
        self._marks[block] = 1
        waiting = self._follow([block])
        if waiting:
            self._spread(np.array(waiting, np.intp))

    def _spread(self, blocks: Index) -> None:
        waiting = [blocks]
        while waiting:
            blocks = waiting.pop()
            while waiting and len(blocks) + len(waiting[-1]) <= _PIECE:
                blocks = np.concatenate((blocks, waiting.pop()))
            if len(blocks) > _MAX_NARROW:
                waiting += self._mark_next(blocks)
            elif len(blocks):
                blocks = np.array(self._follow(blocks.tolist()), np.intp)
                waiting.append(blocks)
                if 0 < len(blocks) <= _MAX_NARROW:
                    waiting.append(self._double(blocks))

    def _mark_next(self, blocks: Index) -> Iterator[Index]:
        """Marks what these blocks point to; the new ones in bounded pieces."""
        for _, codes in self._graph.pointers_of(blocks):
            if self._skipped:
                codes = codes[codes & INTERIOR == 0]
            yield self._mark_unmarked((codes >> np.uint32(1)).astype(np.intp))

    def _mark_unmarked(self, blocks: Index) -> Index:
        """Marks those without a mark; returns them, each once."""
        if self._order is None:
            self._order = np.empty(len(self._graph), np.uint32)
        blocks = blocks[self._marks[blocks] == 0]
        numbers = np.arange(len(blocks), dtype=np.uint32)
        self._order[blocks] = numbers
        self._marks[blocks] = 1
        once: Index = blocks[self._order[blocks] == numbers]
        return once

    def _follow(self, waiting: list[int]) -> list[int]:
        """Follows blocks one by one until none, many, or a chain remains; returns what remains."""
        first, codes, marks = self._views
        skipped = self._skipped
        for _ in range(self._patience):
            if not waiting or len(waiting) > _MIN_WIDE:
                break
            block = waiting.pop()
            for at in range(first[block], first[block + 1]):
                code = codes[at]
                if not code & skipped and not marks[code >> 1]:
                    marks[code >> 1] = 1
                    waiting.append(code >> 1)
        return waiting

    def _double(self, waiting: Index) -> Index:
        """Marks what is reached through the first pointers of blocks, or through the last ones.

        Returns the marked blocks.
        """
        for last in (False, True):
            reached = self._double_through(self._ahead(last), waiting)
            if len(reached) >= 1 << (_TRIAL - 1):
                return reached
        self._patience *= _MORE_PATIENCE
        return reached

    def _ahead(self, last: bool) -> Index:
        """For each block, the target of its first or last pointer; itself if it has none."""
        first = self._graph.first
        ahead = np.arange(len(self._graph))
        holders = np.flatnonzero(first[1:] > first[:-1])
        codes = self._graph.codes[first[holders + 1] - 1 if last else first[holders]]
        if self._skipped:
            followed = codes & INTERIOR == 0
            holders, codes = holders[followed], codes[followed]
        ahead[holders] = codes >> np.uint32(1)
        return ahead

    def _double_through(self, ahead: Index, waiting: Index) -> Index:
        reached = waiting
        for doubling in range(ahead.itemsize * 8):
            new = self._mark_unmarked(ahead[reached])
            reached = np.concatenate((reached, new))
            if len(new) == 0 or (doubling == _TRIAL and len(reached) < 1 << (_TRIAL - 1)):
                break
            ahead = ahead[ahead]
        return reached[len(waiting) :]
