# SPDX-License-Identifier: Apache-2.0
"""The unwind tables in the kernel, stored one after another in shards: bpf/unwind_tables.h."""

from __future__ import annotations

import mmap
import os
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.kernel import bpf
from kwatch.tables.free_ranges import FreeRanges
from kwatch.wire.maps import SHARD_ROWS
from kwatch.wire.unwind_rows import ROW

_ROW_SIZE = ROW.itemsize
_SPARE_SHARDS = 3

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Placed:
    """A table in the kernel: `blocks` is the number of its block 0."""

    blocks: int
    block_count: int
    size: int


class RowStore:
    """Creates shards before they are needed and removes a shard with its last rows.

    The kernel waits for a grace period when a shard is added or removed, so another thread does it.
    """

    def __init__(self, shards: bpf.Map) -> None:
        self._outer = shards
        self._shards: dict[int, Future[bpf.Map]] = {}
        self._ranges = FreeRanges(shards.max_entries * SHARD_ROWS)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kwatch-shards")
        self._provide(0)

    @property
    def kernel_bytes(self) -> int:
        """Kernel memory that the tables use."""
        return len(self._shards) * SHARD_ROWS * _ROW_SIZE

    def place(self, rows: npt.NDArray[np.void], blocks: npt.NDArray[np.uint32]) -> Placed | None:
        """Uploads a table (kwatch.wire.unwind_rows); None if there is no room for it.

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
        """Frees a table that nothing in the kernel refers to any more."""
        self._ranges.give_back(placed.blocks, placed.size)
        last = placed.blocks + placed.size - 1
        for number in range(placed.blocks // SHARD_ROWS, last // SHARD_ROWS + 1):
            start = number * SHARD_ROWS
            if number in self._shards and self._ranges.is_free(start, start + SHARD_ROWS):
                self._worker.submit(self._remove_shard, number, self._shards.pop(number))

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        for shard in self._shards.values():
            if not shard.cancelled() and shard.exception() is None:
                os.close(shard.result().fd)
        self._shards.clear()

    def _upload(self, first: int, words: Words) -> None:
        at = 0
        while at < len(words):
            number, index = divmod(first + at, SHARD_ROWS)
            count = min(SHARD_ROWS - index, len(words) - at)
            _write(self._shard(number), index, words[at : at + count])
            at += count

    def _shard(self, number: int) -> bpf.Map:
        self._provide(number)
        try:
            return self._shards[number].result()
        except OSError:
            del self._shards[number]  # to be tried again
            raise

    def _provide(self, first: int) -> None:
        """Starts to create a shard and the next ones that will be needed."""
        for number in range(first, min(first + 1 + _SPARE_SHARDS, self._outer.max_entries)):
            if number not in self._shards:
                self._shards[number] = self._worker.submit(self._make_shard, number)

    def _make_shard(self, number: int) -> bpf.Map:
        shard = bpf.create_array("kwatch_rows", _ROW_SIZE, SHARD_ROWS, bpf.MAP_MMAPABLE)
        try:
            self._outer.set(struct.pack("I", number), struct.pack("I", shard.fd))
        except OSError:
            os.close(shard.fd)
            raise
        return shard

    def _remove_shard(self, number: int, shard: Future[bpf.Map]) -> None:
        self._outer.delete(struct.pack("I", number))
        os.close(shard.result().fd)


def _write(shard: bpf.Map, index: int, words: Words) -> None:
    """BPF_MAP_UPDATE_BATCH would take forty times as long."""
    with mmap.mmap(shard.fd, SHARD_ROWS * _ROW_SIZE) as memory:
        np.frombuffer(memory, np.uint64)[index : index + len(words)] = words
