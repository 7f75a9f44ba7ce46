# SPDX-License-Identifier: Apache-2.0
"""Follows the sizes of adjacent chunks through one window of memory."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.layouts import HEADER, MIN_CHUNK, PREV_INUSE, SIZE_BITS, WORD

Bools = npt.NDArray[np.bool_]
Indexes = npt.NDArray[np.int64]

#: The size words of fence posts; the first has no PREV_INUSE if the chunk before it is free.
_FENCES = (HEADER, HEADER | PREV_INUSE, PREV_INUSE)
_LAST_FENCES = (HEADER | PREV_INUSE, PREV_INUSE)
_PAGE_MASK = 4095


class Stop(enum.Enum):
    NEXT = enum.auto()  # the chunks go on at the next address
    FENCE = enum.auto()
    BAD = enum.auto()  # no chunk can have the size that is at the next address


class Watched(NamedTuple):
    """What chunks are marked for: their second word, or their size.

    keys: sorted. sizes: of chunks that may hold a tcache; masks: bits that are not in the first
    word of such a block.
    """

    keys: U64
    sizes: U64
    masks: U64


class Marked(NamedTuple):
    """Chunks with one of the keys, both first words of their blocks, and perhaps tcaches."""

    addresses: U64
    links: U64
    keys: U64
    caches: U64

    def before(self, address: int) -> Marked:
        kept = self.addresses < address
        caches = self.caches[self.caches < address]
        return Marked(self.addresses[kept], self.links[kept], self.keys[kept], caches)

    @classmethod
    def joined(cls, parts: Iterable[Marked]) -> Marked:
        columns = zip(cls.none(), *parts, strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    @classmethod
    def none(cls) -> Marked:
        return cls(*(np.empty(0, np.uint64) for _ in range(4)))


@dataclass(slots=True)
class Window:
    """`chunks`: their addresses. `fence_bit`: whether the last chunk before a fence is in use."""

    chunks: U64
    prev_in_use: Bools
    marked: Marked
    stop: Stop
    next: int
    fence_bit: bool = False


def follow(words: U64, start: int, limit: int, forbidden: int, watched: Watched) -> Window:
    """Follows the chunks from `start`, where `words` were read, that begin before the limit.

    No size may have a bit of `forbidden`.
    """
    indexes, following = _indexes(words, (limit - start) // WORD)
    sizes = words[indexes + 1]
    impossible = np.flatnonzero(sizes & np.uint64(forbidden))
    stop, fence_bit = Stop.NEXT, False
    if len(impossible):
        first = int(impossible[0])
        following, stop = int(indexes[first]), Stop.BAD
        indexes, sizes = indexes[:first], sizes[:first]
    elif following < (limit - start) // WORD:
        stop, fence_bit = _fence(words, start, following)
    chunks = np.uint64(start) + indexes.astype(np.uint64) * np.uint64(WORD)
    prev_in_use = sizes & np.uint64(PREV_INUSE) != 0
    marked = _marked(words, indexes, chunks, watched)
    return Window(chunks, prev_in_use, marked, stop, start + following * WORD, fence_bit)


def _indexes(words: U64, limit: int) -> tuple[Indexes, int]:
    """The words where chunks begin, and where the next one would.

    A plain loop: a version with numpy, which looks for sizes that lead to sizes, is three times as
    fast for small blocks, but ten times as slow where the data look like sizes.
    """
    view = words[1 : min(limit, len(words) - 1) + 1].data  # begins with the first size
    found: list[int] = []
    add, index = found.append, 0
    try:
        while (size := view[index]) >= MIN_CHUNK:
            add(index)
            index += size >> 4 << 1
    except IndexError:  # behind the limit
        return np.array(found, np.int64), index
    return np.array(found, np.int64), index


def _fence(words: U64, start: int, index: int) -> tuple[Stop, bool]:
    """Whether fence posts end the piece here: two at the end of a page, the second of size 0 or
    16. If there was no room for two, one of size 0."""
    size = int(words[index + 1])
    posts = 1 if size == PREV_INUSE else 2
    end = start + index * WORD + posts * HEADER
    if size not in _FENCES or end & _PAGE_MASK or index + 2 * posts > len(words):
        return Stop.BAD, False
    if int(words[index + 2 * posts - 1]) not in _LAST_FENCES:
        return Stop.BAD, False
    return Stop.FENCE, bool(size & PREV_INUSE)


def _marked(words: U64, indexes: Indexes, chunks: U64, watched: Watched) -> Marked:
    keys = watched.keys
    second = words[np.minimum(indexes + 3, len(words) - 1)]
    # Pointers are no keys: this leaves few words to look up.
    random = np.flatnonzero(second >> np.uint64(48)) if len(keys) else np.empty(0, np.int64)
    place = np.minimum(np.searchsorted(keys, second[random]), max(len(keys) - 1, 0))
    hits = random[keys[place] == second[random]] if len(random) else random
    caches = chunks[_may_be_caches(words, indexes, watched)]
    return Marked(chunks[hits], words[indexes[hits] + 2], second[hits], caches)


def _may_be_caches(words: U64, indexes: Indexes, watched: Watched) -> Indexes:
    sizes = words[indexes + 1] & ~np.uint64(SIZE_BITS)
    found = []
    for size, mask in zip(watched.sizes, watched.masks, strict=True):
        fits = np.flatnonzero(sizes == size)
        found.append(fits[words[indexes[fits] + 2] & mask == 0])
    return np.concatenate(found) if found else np.empty(0, np.int64)
