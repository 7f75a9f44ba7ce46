# SPDX-License-Identifier: Apache-2.0
"""Finds the blocks that glibc mapped one by one: chunks with the bit IS_MMAPPED."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.layouts import HEADER, IS_MMAPPED, MIN_CHUNK, SIZE_BITS
from kwatch.reach.heaps.spans import Reader, Span
from kwatch.reach.memory import PAGE

#: A block, its usable size, and the mapping from its start to its end.
MappedBlock = tuple[int, int, int, int]

_HUGE = 1  # MMAP_HP of prev_size, since 2.43
#: Of the chunk of a block that is aligned to 32 bytes, 64, ... or a page.
_OFFSETS_IN_A_PAGE = tuple((1 << shift) - HEADER for shift in range(5, 14))
_MAX_MOVED = 1 << 12  # pages: 16 MB
_MAX_PAGES = 1 << 21  # to look at: 8 GB


class MappedChunks:
    """`trailer`: Layout.mapped_trailer. `thorough`: also finds blocks that were aligned to more
    than a page and moved by realloc() since."""

    def __init__(self, reader: Reader, trailer: int, thorough: bool = False) -> None:
        self._reader = reader
        self._trailer = trailer
        self._thorough = thorough

    def find(self, spans: Sequence[Span], elsewhere: bool = True) -> list[MappedBlock]:
        """Looks at the start of spans and behind blocks; `elsewhere`: at all other pages too."""
        found: list[MappedBlock] = []
        pages_left = _MAX_PAGES
        for span in spans:
            at = span.start
            self._runs = self._reader.resident(span.start, span.end)
            self._ends = np.append(self._runs[:, 1], np.uint64(0))
            while at < span.end:
                block = self._at(at, span.end)
                if block is None and not elsewhere:
                    break
                if block is None:
                    following, looked = self._next_header(at + PAGE, span.end, pages_left)
                    pages_left -= looked
                    at = following
                    continue
                found.append(block)
                at = block[3]
        return found

    def _next_header(self, start: int, end: int, most: int) -> tuple[int, int]:
        """The next page that begins with the header of a mapped chunk, and how many were seen."""
        looked = 0
        for pages in self._reader.resident_pages(start, end):
            if looked > most:
                break
            looked += len(pages)
            hits = np.flatnonzero(self._are_headers(self._reader.headers(pages, 2)))
            if len(hits):
                return int(pages[hits[0]]), looked
        return end, looked

    def _are_headers(self, headers: U64) -> npt.NDArray[np.bool_]:
        offsets, sizes = headers[:, 0], headers[:, 1]
        total = sizes - np.uint64(IS_MMAPPED) + np.uint64(self._trailer)
        whole = total & np.uint64(PAGE - 1) == 0
        are: npt.NDArray[np.bool_] = whole & (offsets <= _HUGE) & (sizes >= PAGE - HEADER)
        return are

    def _at(self, base: int, end: int) -> MappedBlock | None:
        """The block whose mapping begins here."""
        total = self._total(base)
        if total is None:
            return None
        offsets = self._offsets_of_aligned(base, min(end, base + total))
        follows = base + total == end or not self._thorough or self._total(base + total)
        if not follows:
            pages = np.arange(1, min((end - base) // PAGE, _MAX_MOVED), dtype=np.uint64)
            offsets = np.union1d(offsets, pages * np.uint64(PAGE) - np.uint64(HEADER))
        moved = self._moved_header(base, end, offsets)
        if moved or base + total > end:
            return moved
        return self._block(base, 0, total)

    def _total(self, base: int) -> int | None:
        """The size of the mapping that begins here, if it begins with a header."""
        address = np.array([base], np.uint64)
        if not self._are_resident(address)[0]:
            return None
        header = self._reader.headers(address, 2)
        if not self._are_headers(header)[0]:
            return None
        return (int(header[0, 1]) & ~SIZE_BITS) + self._trailer

    def _moved_header(self, base: int, end: int, offsets: U64) -> MappedBlock | None:
        """memalign() leaves the header at the start as it was, and makes another at the block."""
        offsets = offsets[self._are_resident(np.uint64(base) + offsets)]
        headers = self._reader.headers(np.uint64(base) + offsets, 2)
        sizes = headers[:, 1] & np.uint64(0xFFFFFFFFFFFFFFF8)
        totals = offsets + sizes + np.uint64(self._trailer)
        fits = headers[:, 0] & np.uint64(0xFFFFFFFFFFFFFFFE) == offsets
        fits &= headers[:, 1] & np.uint64(SIZE_BITS) == IS_MMAPPED
        fits &= (totals & np.uint64(PAGE - 1) == 0) & (sizes >= MIN_CHUNK)
        fits &= (sizes < end - base) & (totals <= end - base)
        hits = np.flatnonzero(fits)
        if not len(hits):
            return None
        return self._block(base, int(offsets[hits[0]]), int(totals[hits[0]]))

    def _offsets_of_aligned(self, base: int, end: int) -> U64:
        """Where the chunk of an aligned block can be: the first such place with room in front."""
        found = list(_OFFSETS_IN_A_PAGE)
        alignment = 2 * PAGE
        while alignment < end - base:
            aligned = -(-(base + HEADER) // alignment) * alignment
            found += [aligned - HEADER - base, aligned + alignment - HEADER - base]
            alignment *= 2
        offsets = np.unique(np.array(found, np.uint64))
        return offsets[offsets <= end - base - MIN_CHUNK]

    def _are_resident(self, addresses: U64) -> npt.NDArray[np.bool_]:
        """Whether addresses in the span are."""
        place = np.searchsorted(self._runs[:, 0], addresses, "right").astype(np.int64) - 1
        are: npt.NDArray[np.bool_] = (place >= 0) & (addresses < self._ends[place])
        return are

    def _block(self, base: int, offset: int, total: int) -> MappedBlock:
        usable = total - offset - HEADER - self._trailer // 2
        return (base + offset + HEADER, usable, base, base + total)
