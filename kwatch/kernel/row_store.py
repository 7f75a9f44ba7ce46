# SPDX-License-Identifier: Apache-2.0
"""The unwind tables in the kernel, one after the other in shards of rows: bpf/unwind_tables.h."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.kernel import bpf
from kwatch.kernel.ranges import Ranges

# bpf/unwind_tables.h
_SHARD_ROWS = 1 << 16
_ROW_SIZE = 8

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Placed:
    """A table in the kernel: `blocks` is the number of its block 0."""

    blocks: int
    block_count: int
    size: int


class RowStore:
    """Shards are made when rows come to lie in them and go with the last ones."""

    def __init__(self, shards: bpf.Map) -> None:
        self._outer = shards
        self._shards: dict[int, bpf.Map] = {}
        self._ranges = Ranges(shards.max_entries * _SHARD_ROWS)

    @property
    def kernel_bytes(self) -> int:
        """Memory of the kernel that the tables take."""
        return len(self._shards) * _SHARD_ROWS * _ROW_SIZE

    def place(self, rows: npt.NDArray[np.void], blocks: npt.NDArray[np.uint32]) -> Placed | None:
        """Uploads a table (kwatch.unwind.rows); None if there is no room for it.

        Raises OSError if the kernel has no memory.
        """
        count = len(blocks) - 1
        size = count + len(rows)
        first = self._ranges.take(size)
        if first is None:
            return None
        words = np.empty(size, np.uint64)
        bounds = blocks.astype(np.uint64) + np.uint64(first + count)
        words[:count] = bounds[:-1] | bounds[1:] << np.uint64(32)
        words[count:] = np.ascontiguousarray(rows).view(np.uint64)
        try:
            self._upload(first, words)
        except OSError:
            self._ranges.give_back(first, size)
            raise
        return Placed(first, count, size)

    def remove(self, placed: Placed) -> None:
        """Nothing in the kernel may refer to the table any more."""
        self._ranges.give_back(placed.blocks, placed.size)
        last = placed.blocks + placed.size - 1
        for number in range(placed.blocks // _SHARD_ROWS, last // _SHARD_ROWS + 1):
            start = number * _SHARD_ROWS
            if number in self._shards and self._ranges.is_free(start, start + _SHARD_ROWS):
                self._outer.delete(struct.pack("I", number))
                os.close(self._shards.pop(number).fd)

    def close(self) -> None:
        for shard in self._shards.values():
            os.close(shard.fd)
        self._shards.clear()

    def _upload(self, first: int, words: Words) -> None:
        at = 0
        while at < len(words):
            number, index = divmod(first + at, _SHARD_ROWS)
            count = min(_SHARD_ROWS - index, len(words) - at)
            self._shard(number).set_many(index, words[at : at + count])
            at += count

    def _shard(self, number: int) -> bpf.Map:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = bpf.create_array("kwatch_rows", _ROW_SIZE, _SHARD_ROWS)
            self._outer.set(struct.pack("I", number), struct.pack("I", shard.fd))
        return shard
