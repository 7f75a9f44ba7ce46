# SPDX-License-Identifier: Apache-2.0
"""Finds glibc's arenas without symbols: by what must hold in a malloc_state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64, Index
from kwatch.reach.heaps.layouts import (
    HEADER,
    HEAP_INFO_SIZES,
    LAYOUTS,
    NONCONTIGUOUS,
    WORD,
    Layout,
)
from kwatch.reach.heaps.spans import Reader, Span
from kwatch.reach.regions import Region

_BIN_WORDS = 254
_MAX_ARENAS = 65536
_MAX_SIZE = 1 << 46  # of a heap; most addresses are higher
_MAX_ADDRESS = 1 << 56  # 57 bits of addresses, the upper half is the kernel's


@dataclass(frozen=True, slots=True)
class Data:
    """A file's data: where, and the words."""

    span: Span
    words: U64


@dataclass(frozen=True, slots=True)
class Arena:
    """One malloc_state, as it was when it was read."""

    address: int
    layout: Layout
    is_main: bool
    words: U64

    @property
    def top(self) -> int:
        return int(self.words[self.layout.top])

    @property
    def system_mem(self) -> int:
        return int(self.words[self.layout.system_mem])

    @property
    def is_noncontiguous(self) -> bool:
        return bool(int(self.words[0]) >> 32 & NONCONTIGUOUS)

    @property
    def is_unused(self) -> bool:
        """Whether its top is still that of malloc_init_state()."""
        return self.top in (0, self.address + self.layout.bins * WORD - HEADER)


class Glibc:
    """One copy of glibc in a process: its data and its arenas, the main arena first."""

    def __init__(self, data: Data, layout: Layout, ring: Sequence[int], reader: Reader) -> None:
        self.data = data
        self.layout = layout
        self._ring = ring
        self._reader = reader

    def arenas(self) -> Iterator[Arena]:
        for number, address in enumerate(self._ring):
            words = self._reader.words(address, self.layout.words)
            if words is not None:
                yield Arena(address, self.layout, number == 0, words)

    def data_of_now(self) -> Data:
        span = self.data.span
        return Data(span, self._reader.window(span.start, span.end))

    def top(self, arena: Arena) -> int:
        """The arena's top of now."""
        return self._reader.word(arena.address + arena.layout.top * WORD) or 0


def find_glibcs(data: Sequence[Data], regions: Sequence[Region], reader: Reader) -> list[Glibc]:
    """The copies of glibc whose heaps are in use: usually one."""
    writable = [region for region in regions if region.permissions.startswith("rw")]
    found: dict[int, Glibc] = {}
    sizes = [_possible_sizes(part.words) for part in data]
    for layout in LAYOUTS:
        for part, at in zip(data, sizes, strict=True):
            for index in _possible_states(part, layout, at):
                address = part.span.start + index * WORD
                words = part.words[index : index + layout.words]
                if address in found or not _bins_are_lists(words, address, layout, writable):
                    continue
                ring = _ring(address, layout, reader)
                if ring:
                    found[address] = Glibc(part, layout, ring, reader)
    return list(found.values())


def _possible_sizes(words: U64) -> Index:
    """Indexes of words that can be a system_mem: the next one is a max_system_mem."""
    size, most = words[:-1], words[1:]
    possible = most < _MAX_SIZE
    possible &= size <= most
    possible &= size > 0
    return np.flatnonzero(possible)


def _possible_states(data: Data, layout: Layout, sizes: Index) -> list[int]:
    """Indexes of words where a main arena in use can begin. `sizes`: of possible system_mem."""
    indexes = sizes[sizes >= layout.system_mem] - layout.system_mem
    following = data.words[indexes + layout.next]
    addresses = np.uint64(data.span.start) + indexes.astype(np.uint64) * np.uint64(WORD)
    # The others are at the start of a heap, whose alignment is 64 MB or, with huge pages, less.
    other = np.isin(following & np.uint64(0xFFFF), np.array(HEAP_INFO_SIZES, np.uint64))
    indexes = indexes[(following == addresses) | other & (following > 0xFFFF)]
    for place, below in ((layout.top, 15), (layout.bins, 7), (layout.bins + _BIN_WORDS - 1, 7)):
        pointers = data.words[indexes + place]
        are = (pointers > 0) & (pointers < _MAX_ADDRESS) & (pointers & np.uint64(below) == 0)
        indexes = indexes[are]
    found: list[int] = indexes.tolist()
    return found


def _bins_are_lists(words: U64, address: int, layout: Layout, writable: Sequence[Region]) -> bool:
    """Whether each bin points to itself or into writable memory."""
    bins = words[layout.bins : layout.bins + _BIN_WORDS]
    numbers = np.arange(_BIN_WORDS, dtype=np.uint64) // np.uint64(2)
    empty = np.uint64(address + layout.bins * WORD - HEADER) + numbers * np.uint64(HEADER)
    others = np.concatenate((bins[bins != empty], words[layout.top : layout.top + 1]))
    starts = np.array([region.start for region in writable], np.uint64)
    ends = np.array([region.end for region in writable], np.uint64)
    place = np.searchsorted(starts, others, "right").astype(np.int64) - 1
    return bool(np.all((place >= 0) & (others < ends[place])))


def _ring(main: int, layout: Layout, reader: Reader) -> list[int]:
    """The arenas from the main one on; none if the list does not come back to it."""
    ring = {main: None}
    address = main
    while len(ring) < _MAX_ARENAS:
        following = reader.word(address + layout.next * WORD)
        if following == main:
            return list(ring)
        if not following or following in ring or following & 7:
            return []
        ring[following] = None
        address = following
    return []
