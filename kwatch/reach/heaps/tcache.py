# SPDX-License-Identifier: Apache-2.0
"""Finds the blocks in the caches of threads. They are free, but look as if they were in use.

Since 2.29 a cached block holds a key in its second word: up to 2.33 the address of its
tcache_perthread_struct, since 2.34 (commit fc859c304898) a random number in libc's data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.blocks import Bools, is_in
from kwatch.reach.heaps.layouts import MIN_CHUNK, SIZE_BITS, UNIT, WORD
from kwatch.reach.heaps.spans import Reader
from kwatch.reach.heaps.window import Watched

_PAGE = os.sysconf("SC_PAGE_SIZE")
_BINS = 64
_BATCH = 4096
_MAX_TORN = 3  # bins that a thread may be changing


@dataclass(frozen=True, slots=True)
class _Shape:
    """struct tcache_perthread_struct: `count` bytes for each of `bins` numbers, then pointers."""

    count: int
    bins: int

    @property
    def size(self) -> int:
        return self.bins * (self.count + WORD)

    @property
    def usable(self) -> int:
        return -(-(self.size + WORD) // UNIT) * UNIT - WORD

    @property
    def mapped(self) -> int:
        """The usable size in a mapping of its own, which a small M_MMAP_THRESHOLD gives it."""
        return -(-(self.size + UNIT) // _PAGE) * _PAGE - UNIT


#: 2.26 to 2.29; 2.30 to 2.41; since 2.42, with bins for large blocks.
_SHAPES = (_Shape(1, _BINS), _Shape(2, _BINS), _Shape(2, 76))


def watched(data: U64, count: int) -> Watched:
    """What to mark for the tcaches to be found: words of libc's data, which may be the key, and
    sizes. `count`: the most blocks in a list."""
    keys = np.unique(data[data >> np.uint64(48) != 0])  # pointers have no bits this high
    sizes, masks = [], []
    for shape in _SHAPES:
        most = (1 << min(count, (1 << 8 * shape.count) - 1).bit_length()) - 1
        free = int.from_bytes(
            most.to_bytes(shape.count, "little") * (WORD // shape.count), "little"
        )
        # A remainder that is too small for a chunk stays with the block.
        for size in (shape.usable + WORD, shape.usable + WORD + UNIT):
            sizes.append(size)
            masks.append(~free & (1 << 64) - 1)
    return Watched(keys, np.array(sizes, np.uint64), np.array(masks, np.uint64))


@dataclass(frozen=True, slots=True)
class Caches:
    """The tcaches in use, by address, and their usable sizes.

    heads: the first block of each list. keys: its second word.
    """

    structs: U64
    sizes: U64
    heads: U64
    keys: U64

    def random_key(self, known: U64) -> int | None:
        """The number that is the key of all blocks, if it is one of these, sorted."""
        keys = self.keys[is_in(self.keys, known)]
        if not len(keys) or len(keys) * 2 < len(self.keys):
            return None
        values, counts = np.unique(keys, return_counts=True)
        return int(values[np.argmax(counts)])

    @property
    def are_their_own_keys(self) -> bool:
        return int(is_in(self.keys, self.structs).sum()) * 2 >= len(self.keys)

    def heads_of_now(self, reader: Reader) -> U64:
        return find_caches(reader, self.structs, self.sizes).heads


def may_be_mapped(sizes: U64) -> Bools:
    """Which usable sizes a tcache can have that is a mapped block."""
    return np.isin(sizes, [shape.mapped for shape in _SHAPES])


def find_caches(reader: Reader, starts: U64, sizes: U64) -> Caches:
    """The tcaches among blocks: `starts`, and usable `sizes`."""
    structs: list[int] = []
    heads: list[U64] = []
    for shape in _SHAPES:
        fits = np.isin(sizes, (shape.usable, shape.usable + UNIT, shape.mapped))
        found = starts[fits]
        for first in range(0, len(found), _BATCH):
            batch = found[first : first + _BATCH]
            rows = reader.headers(batch, shape.size // WORD)
            for number in np.flatnonzero(_may_be_caches(rows, shape)).tolist():
                lists = _lists(rows[number], shape, reader)
                if len(lists):
                    structs.append(int(batch[number]))
                    heads.append(lists)
    together = np.concatenate(heads) if heads else np.empty(0, np.uint64)
    keys = reader.headers(together, 2)[:, 1]
    ordered = np.array(sorted(structs), np.uint64)
    return Caches(ordered, sizes[np.searchsorted(starts, ordered)], together, keys)


def _may_be_caches(rows: U64, shape: _Shape) -> Bools:
    entries = rows[:, -shape.bins :]
    possible: Bools = (entries & np.uint64(UNIT - 1) == 0).all(axis=1) & entries.any(axis=1)
    if shape.bins == _BINS:  # newer ones count what is free
        numbers = np.ascontiguousarray(rows[:, : -shape.bins]).view(f"u{shape.count}")
        possible &= ((numbers > 0) != (entries > 0)).sum(axis=1) <= _MAX_TORN
    return possible


def _lists(row: U64, shape: _Shape, reader: Reader) -> U64:
    """The heads of the lists, if they are blocks of the right sizes."""
    entries = row[-shape.bins :]
    used = np.flatnonzero(entries)
    heads = entries[used]
    sizes = reader.headers(heads - np.uint64(WORD), 1)[:, 0] & ~np.uint64(SIZE_BITS)
    expected = used.astype(np.uint64) * np.uint64(UNIT) + np.uint64(MIN_CHUNK)
    right = np.where(used < _BINS, sizes == expected, sizes > _BINS * UNIT)
    return heads[right] if np.count_nonzero(~right) <= _MAX_TORN else heads[:0]


def revealed(links: U64, addresses: U64) -> U64:
    """The pointers behind safe-linked ones, which are at these addresses."""
    return links ^ (addresses >> np.uint64(12))


def follow_lists(reader: Reader, heads: U64, starts: U64, most: int) -> U64:
    """All blocks of some lists. `starts`: the blocks, sorted; a link to anything else ends a list.

    Up to 2.31 the links were plain pointers.
    """
    found = [heads[is_in(heads, starts)]]
    seen = np.unique(found[0])
    for _ in range(most):
        last = found[-1]
        if not len(last):
            break
        links = reader.headers(last, 1)[:, 0]
        following = revealed(links, last)
        plain = is_in(links, starts)
        following[plain] = links[plain]
        following = np.unique(following[is_in(following, starts)])
        found.append(following[~np.isin(following, seen)])
        seen = np.union1d(seen, found[-1])
    return seen


def linked(blocks: U64, links: U64, heads: U64) -> Bools:
    """Which of some blocks a list leads to: by its head or by another of the blocks."""
    targets = np.unique(np.concatenate((heads, revealed(links, blocks), links)))
    return is_in(blocks, targets)
