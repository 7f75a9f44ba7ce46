# SPDX-License-Identifier: Apache-2.0
"""The layouts of glibc's heap: struct malloc_state, heap_info and the chunk header (malloc.c)."""

from __future__ import annotations

from dataclasses import dataclass

WORD = 8
#: The least distance between chunks; MALLOC_ALIGNMENT of x86-64 and of arm64.
UNIT = 16
#: From the address of a chunk to the block that malloc() returns.
HEADER = 16
MIN_CHUNK = 32

#: Bits of a chunk's size.
PREV_INUSE, IS_MMAPPED, NON_MAIN_ARENA = 1, 2, 4
SIZE_BITS = 7

#: A bit of malloc_state.flags: the heap is in several pieces.
NONCONTIGUOUS = 2

#: Sizes of heap_info: up to 2.34, and since 2.35, which added `pagesize`.
HEAP_INFO_SIZES = (0x20, 0x30)
#: HEAP_MAX_SIZE; from 2.35 to 2.41, four huge pages if malloc uses those.
HEAP_ALIGNMENTS = tuple(1 << shift for shift in (26, 23, 27, 31, 32, 18))


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in struct malloc_state, in words. `bins`: how many words come before the bins."""

    bins: int

    @property
    def top(self) -> int:
        return self.bins - 2

    @property
    def next(self) -> int:
        return self.bins + 256  # behind 254 words of bins and 2 of binmap

    @property
    def system_mem(self) -> int:
        return self.bins + 259

    @property
    def max_system_mem(self) -> int:
        return self.bins + 260

    @property
    def words(self) -> int:
        return self.bins + 261

    @property
    def size(self) -> int:
        return self.words * WORD

    @property
    def fastbins(self) -> slice:
        """Empty if this glibc has none."""
        return slice(self.bins - 12, self.bins - 2) if self.bins > 12 else slice(0, 0)

    @property
    def mapped_trailer(self) -> int:
        """How many bytes of a mapped chunk its size does not count, besides its offset."""
        return HEADER if self.bins == 3 else 0


#: 2.27 to 2.42; 2.26 and older, without have_fastchunks; since 2.43, without fastbins.
LAYOUTS = (Layout(14), Layout(13), Layout(3))
