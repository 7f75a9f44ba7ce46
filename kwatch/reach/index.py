# SPDX-License-Identifier: Apache-2.0
"""Finds the block that holds an address, in constant time for almost every heap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64, Index

#: Heaps are dense in parts. A part ends where the next block begins later than this.
_MAX_GAPS = (1 << 22, 1 << 16, 1 << 12)
#: The bits and ranks of the parts take at most this many bytes, for each block and in all.
_MAX_BYTES_PER_BLOCK, _MIN_BYTES = 40, 1 << 20
#: Bytes for each bit. Most allocators align blocks to 16 bytes; some give blocks of 8 bytes.
_GRANULE_SHIFTS = (4, 3)

_BITS = np.uint64(63)
_WORD_SHIFT = np.uint64(6)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_PIECE = 1 << 16  # blocks that are entered at once
_WORD_BYTES = 8 + 4  # the bits, and their rank


class BlockIndex:
    """One bit for each 16 bytes says whether a block starts there, and a rank for each word of bits
    says how many started before: the last block that starts at or below an address is one lookup.

    A heap whose blocks lie too far apart, or too close together, is searched by bisection.
    """

    def __init__(self, starts: U64, sizes: U64) -> None:
        """`starts` ascend. A block of no bytes holds its own address."""
        self.starts = starts
        self.lengths = np.maximum(sizes, np.uint64(1)) if len(sizes) and sizes.min() == 0 else sizes
        #: No address outside these bounds is in a block.
        self.low, self.high = 0, 0
        self._bits: U64 | None = None
        self._crowded = False
        if len(starts):
            self.low, self.high = int(starts[0]), int((starts + self.lengths).max())
            self._choose()

    def find(self, addresses: U64) -> tuple[Index, U64]:
        """The number of the block that holds each address, or -1, and the offset in the block."""
        if len(self.starts) == 0:
            return np.full(len(addresses), -1), np.zeros(len(addresses), np.uint64)
        before = self._last_before(addresses)
        np.maximum(before, 0, out=before)
        offsets = addresses - self.starts[before]  # wraps around if the block begins later
        before[offsets >= self.lengths[before]] = -1
        return before, offsets

    @property
    def nbytes(self) -> int:
        """The memory of this object beside the two arrays that it was made of."""
        return 0 if self._bits is None else self._bits.nbytes + self._ranks.nbytes

    def _choose(self) -> None:
        """Chooses the size of a granule and of the gaps between the parts."""
        limit = len(self.starts) * _MAX_BYTES_PER_BLOCK + _MIN_BYTES
        for shift in map(np.uint64, _GRANULE_SHIFTS):
            granules = self.starts >> shift
            if np.any(granules[1:] == granules[:-1]):
                continue
            for gap in _MAX_GAPS:
                first = np.flatnonzero(self.starts[1:] - self.starts[:-1] > np.uint64(gap)) + 1
                first = np.concatenate(([0], first))
                last = np.concatenate((first[1:] - 1, [len(self.starts) - 1]))
                words = (granules[last] >> _WORD_SHIFT) - (granules[first] >> _WORD_SHIFT)
                if (int(words.sum()) + len(words)) * _WORD_BYTES + len(words) * 32 <= limit:
                    self._build(granules, first, last, shift)
                    return

    def _build(self, granules: U64, first: Index, last: Index, shift: np.uint64) -> None:
        self._shift = shift
        self._part_starts = self.starts[first]
        self._first_granules = granules[first] & ~_BITS
        self._last_granules = granules[last] - self._first_granules
        words = (self._last_granules >> _WORD_SHIFT).astype(np.intp) + 1
        self._first_words = np.cumsum(words) - words
        self._bits = np.zeros(int(words.sum()), np.uint64)
        for start in range(0, len(granules), _PIECE):
            piece = granules[start : start + _PIECE]
            part = first.searchsorted(np.arange(start, start + len(piece)), "right") - 1
            inside = piece - self._first_granules[part]
            at = self._first_words[part] + (inside >> _WORD_SHIFT).astype(np.intp)
            new = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1])))
            self._bits[at[new]] |= np.bitwise_or.reduceat(np.uint64(1) << (inside & _BITS), new)
        counts = np.bitwise_count(self._bits).astype(np.uint32)
        self._ranks: npt.NDArray[np.uint32] = np.cumsum(counts, dtype=np.uint32) - counts
        self._crowded = bool(np.any(self.starts & ((np.uint64(1) << shift) - np.uint64(1))))

    def _last_before(self, addresses: U64) -> Index:
        """The last block that starts at or below each address; -1 or any block if there is none."""
        if self._bits is None:
            return self.starts.searchsorted(addresses, "right") - 1
        granules = addresses >> self._shift
        words: Index
        if len(self._part_starts) == 1:
            granules -= self._first_granules[0]
            np.minimum(granules, self._last_granules[0], out=granules)
            words = (granules >> _WORD_SHIFT).astype(np.intp)
        else:
            part = self._part_starts.searchsorted(addresses, "right") - 1
            np.maximum(part, 0, out=part)
            granules -= self._first_granules[part]
            np.minimum(granules, self._last_granules[part], out=granules)
            words = self._first_words[part] + (granules >> _WORD_SHIFT).astype(np.intp)
        below = self._bits[words] & (_ALL >> (_BITS - (granules & _BITS)))
        found = self._ranks[words].astype(np.intp) + np.bitwise_count(below) - 1
        if self._crowded:  # the block of this granule may begin behind the address
            found -= (found >= 0) & (self.starts[found] > addresses)
        return found
