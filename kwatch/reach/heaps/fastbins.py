# SPDX-License-Identifier: Apache-2.0
"""Finds the blocks in fastbins (glibc up to 2.42). They are free, but look as if in use.

Only their lists tell. A thread that allocates changes the front of a list at any time.
"""

from __future__ import annotations

from collections.abc import Callable

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.arenas import Arena
from kwatch.reach.heaps.layouts import HEADER, MIN_CHUNK, SIZE_BITS, UNIT, WORD
from kwatch.reach.heaps.spans import Reader
from kwatch.reach.memory import PAGE

_DIRECT = 16  # blocks at the front of a list that are read one by one, at once
_MAX_TRIES = 40
_MAX_BLOCKS = 1 << 24
_MAX_PAGES = 4096  # kept at a time


class TornList(Exception):
    """The process changed the list while it was followed."""


class FastBins:
    """`is_inside`: whether an address is in a piece of the heap."""

    def __init__(self, reader: Reader, is_inside: Callable[[int], bool]) -> None:
        self._reader = reader
        self._is_inside = is_inside
        self._pages: dict[int, U64] = {}

    def blocks(self, arena: Arena) -> tuple[set[int], list[int]]:
        """The blocks in an arena's fastbins; the usable sizes of those that were always torn."""
        found: set[int] = set()
        torn: list[int] = []
        places = range(arena.layout.words)[arena.layout.fastbins]
        for number, place in enumerate(places):
            size = MIN_CHUNK + number * UNIT
            blocks = self._whole_list(arena.address + place * WORD, size)
            if blocks is None:
                torn.append(size - WORD)
            else:
                found |= blocks
        return found, torn

    def _whole_list(self, head: int, size: int) -> set[int] | None:
        for _ in range(_MAX_TRIES):
            for is_protected in (True, False):
                self._pages.clear()
                try:
                    return self._list(head, size, is_protected)
                except TornList:
                    continue
        return None

    def _list(self, head: int, size: int, is_protected: bool) -> set[int]:
        """Raises TornList.

        Links are protected since 2.32 (commit a1a486d70ebc). One link does not tell: where the heap
        has low addresses, a protected one can be the address of another chunk. The end tells.
        """
        found: set[int] = set()
        chunk = self._reader.word(head) or 0
        while chunk:
            block = chunk + HEADER
            if block in found or block % UNIT or len(found) >= _MAX_BLOCKS:
                raise TornList
            if not self._is_inside(block):
                raise TornList
            found.add(block)
            header, link = self._words(block - WORD, len(found) > _DIRECT)
            if header & ~SIZE_BITS != size:
                raise TornList
            chunk = link ^ block >> 12 if is_protected else link
        return found

    def _words(self, address: int, cached: bool) -> tuple[int, int]:
        """Two words. Raises TornList."""
        if not cached:
            words = self._reader.words(address, 2)
            if words is None:
                raise TornList
            return int(words[0]), int(words[1])
        return self._cached_word(address), self._cached_word(address + WORD)

    def _cached_word(self, address: int) -> int:
        page = address // PAGE * PAGE
        words = self._pages.get(page)
        if words is None:
            if len(self._pages) >= _MAX_PAGES:
                self._pages.clear()
            words = self._reader.window(page, page + PAGE)
            self._pages[page] = words
        return int(words[(address - page) // WORD])
