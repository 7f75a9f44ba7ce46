# SPDX-License-Identifier: Apache-2.0
"""Lists the live blocks of glibc's malloc, from 2.26 on, without symbols and without a stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.arenas import Data, Glibc, find_glibcs
from kwatch.reach.heaps.blocks import blocks_in_use, without
from kwatch.reach.heaps.free_blocks import find_free
from kwatch.reach.heaps.heap import HeapWalk
from kwatch.reach.heaps.malloc_par import MallocPar, find_malloc_par
from kwatch.reach.heaps.mapped_chunks import MappedBlock, MappedChunks
from kwatch.reach.heaps.pieces import ArenaPieces, PieceWalk
from kwatch.reach.heaps.spans import Reader, Span, anonymous_spans, data_spans
from kwatch.reach.heaps.tcache import watched
from kwatch.reach.memory import Ranges, TargetMemory, as_ranges
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import Region

_MAX_COUNT = 65535  # of blocks in a list of a tcache


def walk(memory: TargetMemory, pages: PageMap, regions: Sequence[Region]) -> HeapWalk | None:
    """None if the process does not use glibc's malloc."""
    reader = Reader(memory, pages)
    data = [Data(span, reader.window(span.start, span.end)) for span in data_spans(regions)]
    glibcs = find_glibcs(data, regions, reader)
    if not glibcs:
        return None
    spans = anonymous_spans(regions)
    pars = [find_malloc_par(glibc.data, spans) for glibc in glibcs]
    arenas = [
        arena
        for glibc, par in zip(glibcs, pars, strict=True)
        for arena in _walk_arenas(reader, glibc, spans, par)
    ]
    mapped, trouble = _mapped(reader, glibcs, spans, arenas)
    return _result(reader, arenas, mapped, trouble)


def _walk_arenas(
    reader: Reader, glibc: Glibc, spans: Sequence[Span], par: MallocPar | None
) -> list[ArenaPieces]:
    count = par.tcache_count if par else _MAX_COUNT
    walker = PieceWalk(reader, glibc, spans, watched(glibc.data.words, count))
    return [walker.walk(arena, par) for arena in glibc.arenas()]


def _mapped(
    reader: Reader, glibcs: Sequence[Glibc], spans: Sequence[Span], arenas: Sequence[ArenaPieces]
) -> tuple[list[MappedBlock], list[str]]:
    """The mapped blocks, checked against glibc's own sum of them, and what is wrong with them."""
    claimed = [part for arena in arenas for part in (*arena.claimed, *arena.own)]
    ranges = _without([(span.start, span.end) for span in spans], claimed)
    free_spans = [Span(start, end, "") for start, end in ranges]
    trailer = glibcs[0].layout.mapped_trailer
    for elsewhere, thorough in ((False, False), (True, False), (True, True)):
        found = MappedChunks(reader, trailer, thorough).find(free_spans, elsewhere)
        pars = [find_malloc_par(glibc.data_of_now(), spans) for glibc in glibcs]
        known = [par for par in pars if par]
        counted = sum(par.mapped_bytes for par in known)
        is_checked = len(known) == len(glibcs)
        if (is_checked and _bytes(found) == counted) or (elsewhere and not is_checked):
            return found, []
    expected = sum(par.mapped_blocks for par in known)
    if len(found) > expected or _bytes(found) > counted:
        return [], [f"mapped blocks: {len(found)} found where glibc counts {expected}"]
    missing = expected - len(found)
    return found, [f"mapped blocks that were not found: {missing}"] if missing else []


def _bytes(blocks: Iterable[MappedBlock]) -> int:
    return sum(end - start for _, _, start, end in blocks)


def _result(
    reader: Reader,
    arenas: Sequence[ArenaPieces],
    mapped: Sequence[MappedBlock],
    trouble: Sequence[str],
) -> HeapWalk:
    starts, sizes = blocks_in_use([chain for arena in arenas for chain in arena.chains], mapped)
    free = find_free(reader, arenas, starts, sizes)
    unsure = _ranges(free.unsure, starts, sizes)
    own = as_ranges(part for arena in arenas for part in arena.own)
    own = np.concatenate((own, _ranges(free.caches, starts, sizes)))
    removed = np.unique(np.concatenate((free.free, free.unsure, free.caches)))
    starts, sizes = without(starts, sizes, removed)
    pieces = [part for arena in arenas for part in arena.pieces]
    pieces += [(start, end) for _, _, start, end in mapped]
    walked = _without(sorted(pieces), [(start, end) for start, end in unsure.tolist()])
    unwalked = [phrase for arena in arenas for phrase in arena.unwalked]
    unwalked += [*trouble, *free.unwalked]
    return HeapWalk(starts, sizes, as_ranges(walked), own[np.argsort(own[:, 0])], tuple(unwalked))


def _ranges(chosen: U64, starts: U64, sizes: U64) -> Ranges:
    return np.column_stack((chosen, chosen + sizes[np.searchsorted(starts, chosen)]))


def _without(
    ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The parts of some sorted ranges that others have not taken."""
    ordered = deque(sorted(taken))
    for start, end in ranges:
        while ordered and ordered[0][0] < end:
            first, last = ordered[0]
            if last > start:
                if first > start:
                    yield start, first
                start = max(start, min(last, end))
            if last > end:
                break
            ordered.popleft()
        if start < end:
            yield start, end
