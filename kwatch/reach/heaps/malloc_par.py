# SPDX-License-Identifier: Apache-2.0
"""Finds glibc's malloc_par, mp_, in its data: where the heap begins, and how much is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.arenas import Data
from kwatch.reach.heaps.spans import Span

_INT = (1 << 32) - 1
_MAX_SIZE = 1 << 56
_MAX_BINS, _MAX_CACHED, _MAX_COUNT = 76, 1 << 32, 65535  # of the tcache


@dataclass(frozen=True, slots=True)
class MallocPar:
    """`mapped_blocks`, `mapped_bytes`: mapped now. `tcache_count`: the most in a list."""

    sbrk_base: int
    mapped_blocks: int
    mapped_bytes: int
    tcache_count: int


def find_malloc_par(data: Data, spans: Sequence[Span]) -> MallocPar | None:
    """By the numbers of mapped blocks in front of an address in anonymous memory."""
    words = data.words
    if len(words) < 16:
        return None
    starts = np.array([span.start for span in spans], np.uint64)
    ends = np.array([span.end for span in spans], np.uint64)
    place = np.searchsorted(starts, words, "right").astype(np.int64) - 1
    inside = (place >= 0) & (words < ends[place]) if len(spans) else np.zeros(len(words), bool)
    for index in np.flatnonzero(inside).tolist():
        if index >= 8 and index + 4 <= len(words):
            found = _at(words[index - 8 : index + 4])
            if found:
                return found
    return None


def _at(words: U64) -> MallocPar | None:
    """The words around sbrk_base, which is the ninth."""
    mapped, most, base, bins, max_bytes, count = (int(word) for word in words[6:12])
    if not 1 <= bins <= _MAX_BINS or not 1 <= max_bytes <= _MAX_CACHED or count > _MAX_COUNT:
        return None
    before = [half for word in words[3:6].tolist() for half in (word & _INT, word >> 32)]
    # Up to 2.34, four numbers in front of the sizes; since 2.35, hp_flags and padding around them.
    for now, _, at_most, fixed in (before[2:6], before[1:5]):
        fits = bool(now) == bool(mapped) and bool(at_most) == bool(most)
        if fits and now <= at_most and mapped <= most < _MAX_SIZE and fixed <= 1:
            return MallocPar(base, now, mapped, count)
    return None
