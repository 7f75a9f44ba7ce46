# SPDX-License-Identifier: Apache-2.0
"""Walks the pieces of an arena: the main heap, or the heaps that an arena mapped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kwatch.reach.heaps.arenas import Arena, Glibc
from kwatch.reach.heaps.chain import Chain, ChainWalk, Ending
from kwatch.reach.heaps.layouts import (
    HEAP_ALIGNMENTS,
    HEAP_INFO_SIZES,
    PREV_INUSE,
    SIZE_BITS,
    UNIT,
)
from kwatch.reach.heaps.malloc_par import MallocPar
from kwatch.reach.heaps.spans import Reader, Span
from kwatch.reach.heaps.window import Watched
from kwatch.reach.memory import PAGE

_MAX_STARTS = 256  # to try where the start of a piece is not known
_MAX_HEAPS = 1 << 20


@dataclass(slots=True)
class ArenaPieces:
    """What was found of an arena.

    pieces: the memory that was walked. claimed: all that is the arena's. own: the arena's data.
    """

    arena: Arena
    chains: list[Chain] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    own: list[tuple[int, int]] = field(default_factory=list)
    claimed: list[tuple[int, int]] = field(default_factory=list)
    unwalked: list[str] = field(default_factory=list)

    def is_inside(self, address: int) -> bool:
        return any(chain.start <= address < chain.end for chain in self.chains)

    @property
    def walked(self) -> int:
        return sum(end - start for start, end in self.pieces)

    @property
    def name(self) -> str:
        return "the main heap" if self.arena.is_main else f"the arena at {self.arena.address:#x}"

    def keep(self, chain: Chain, end: int) -> None:
        """Adds a chain; the piece that it was to walk ends at `end`."""
        walked = chain.end
        if chain.ending is Ending.FENCE:
            walked = -(-(chain.end + UNIT) // PAGE) * PAGE
        self.chains.append(chain)
        self.pieces.append((chain.start, walked))
        self.claimed.append((chain.start, end if chain.ending is Ending.BAD else walked))
        if chain.ending is Ending.BAD:
            self.unwalked.append(f"{chain.end:#x}-{end:#x} of {self.name}")


class PieceWalk:
    """Walks the arenas of one glibc."""

    def __init__(
        self, reader: Reader, glibc: Glibc, spans: Sequence[Span], watched: Watched
    ) -> None:
        self._reader = reader
        self._glibc = glibc
        self._spans = spans
        self._watched = watched
        self.retries = 0

    def walk(self, arena: Arena, par: MallocPar | None) -> ArenaPieces:
        pieces = ArenaPieces(arena)
        if arena.is_main:
            pieces.own.append((arena.address, arena.address + arena.layout.size))
            if not arena.is_unused:
                self._main(pieces, par)
        else:
            self._heaps(pieces)
        return pieces

    def _chain(self, arena: Arena, start: int, end: int, retry: bool = True) -> Chain:
        walk = ChainWalk(self._reader, arena.is_main, lambda: self._glibc.top(arena), self._watched)
        chain = walk.walk(start, end) if retry else walk.walk(start, end, 0)
        self.retries += walk.retries
        return chain

    def _main(self, pieces: ArenaPieces, par: MallocPar | None) -> None:
        """The main heap is one piece, if nothing else moved the program break or blocked it."""
        if pieces.arena.is_noncontiguous:
            self._scattered(pieces, par)
            return
        for span in self._spans:
            if span.start <= pieces.arena.top < span.end:
                self._span(pieces, span, self._first_starts(span, par))

    def _first_starts(self, span: Span, par: MallocPar | None) -> Iterator[int]:
        if par and span.start <= par.sbrk_base < span.end:
            yield -(-par.sbrk_base // UNIT) * UNIT
            return
        yield span.start
        words = self._glibc.data.words
        inside = words[(words >= span.start) & (words < span.end) & (words % UNIT == 0)]
        yield from np.unique(inside)[:_MAX_STARTS].tolist()

    def _span(self, pieces: ArenaPieces, span: Span, starts: Iterator[int]) -> None:
        """Walks the pieces of a span; between them is memory of others."""
        while True:
            chain = self._first_good(pieces.arena, starts, span.end)
            if chain is None:
                pieces.claimed.append((span.start, span.end))
                pieces.unwalked.append(f"{span.start:#x}-{span.end:#x} of {pieces.name}")
                return
            pieces.keep(chain, span.end)
            if chain.ending is not Ending.FENCE:
                return
            behind = -(-(chain.end + UNIT) // PAGE) * PAGE
            if behind >= span.end or not behind <= self._glibc.top(pieces.arena) < span.end:
                return
            span = Span(behind, span.end, span.path)
            starts = self._starts_behind(span)

    def _starts_behind(self, span: Span) -> Iterator[int]:
        """Where malloc may go on behind memory that another caller of sbrk() took."""
        for page in itertools.chain(*self._reader.resident_pages(span.start, span.end)):
            yield int(page)
            words = self._reader.window(int(page), int(page) + PAGE)[1::2]
            likely = np.flatnonzero((words & np.uint64(15) == PREV_INUSE) & (words > UNIT))
            yield from (int(page) + int(unit) * UNIT for unit in likely if unit)

    def _first_good(self, arena: Arena, starts: Iterator[int], end: int) -> Chain | None:
        best: Chain | None = None
        for number, start in enumerate(starts):
            if number >= _MAX_STARTS:
                break
            # A process that changes its heap may spoil the walk from the right start.
            chain = self._chain(arena, start, end, retry=not number)
            if chain.ending is not Ending.BAD:
                return chain
            if len(chain.units) and (best is None or chain.end > best.end):
                best = chain
        return best

    def _scattered(self, pieces: ArenaPieces, par: MallocPar | None) -> None:
        """Walks the pieces that malloc mapped because brk() failed, and [heap] before them."""
        for span in sorted(self._spans, key=lambda span: span.path != "[heap]"):
            start = span.start
            if par and start < par.sbrk_base < span.end:  # a static program begins with TLS
                start = -(-par.sbrk_base // UNIT) * UNIT
                self._piece(pieces, start, span.end)
            self._pieces_at_pages(pieces, start, span.end)
        missing = pieces.arena.system_mem - pieces.walked
        if missing > 0:
            text = f"{missing} bytes of the main heap, in pieces that were not found"
            pieces.unwalked.append(text)

    def _pieces_at_pages(self, pieces: ArenaPieces, start: int, end: int) -> None:
        for pages in self._reader.resident_pages(start, end):
            sizes = self._reader.headers(pages, 2)[:, 1]
            likely = (sizes & np.uint64(SIZE_BITS | 8) == PREV_INUSE) & (sizes > UNIT)
            for page in pages[likely].tolist():
                if pieces.walked >= pieces.arena.system_mem:
                    return
                if not pieces.is_inside(page):
                    self._piece(pieces, page, end)

    def _piece(self, pieces: ArenaPieces, start: int, end: int) -> None:
        """Walks the piece that starts here, if one does."""
        chain = self._chain(pieces.arena, start, end, retry=False)
        is_top = start <= self._glibc.top(pieces.arena) < end
        if chain.ending is Ending.FENCE or (chain.ending is Ending.TOP and is_top):
            pieces.keep(chain, end)

    def _heaps(self, pieces: ArenaPieces) -> None:
        """The heaps of another arena, the newest first."""
        arena = pieces.arena
        heap = self._heap_of(arena)
        seen: set[int] = set()
        while heap and heap not in seen and len(seen) < _MAX_HEAPS:
            seen.add(heap)
            info = self._reader.words(heap, 3)
            if info is None or int(info[0]) != arena.address:
                pieces.unwalked.append(f"a heap of the arena at {arena.address:#x}")
                return
            _, previous, size = (int(word) for word in info)
            start = self._first_chunk(arena, heap)
            pieces.own.append((heap, start))
            pieces.keep(self._chain(arena, start, heap + size), heap + size)
            heap = previous

    def _heap_of(self, arena: Arena) -> int:
        """The heap that holds the arena's top; 0 if there is none."""
        for alignment in HEAP_ALIGNMENTS:
            heap = arena.top & -alignment
            if self._reader.word(heap) == arena.address:
                return heap
        return 0

    def _first_chunk(self, arena: Arena, heap: int) -> int:
        info = arena.address & 0xFFFF
        if info not in HEAP_INFO_SIZES:
            info = HEAP_INFO_SIZES[-1]
        if heap + info == arena.address:
            return -(-(arena.address + arena.layout.size) // UNIT) * UNIT
        return heap + info
