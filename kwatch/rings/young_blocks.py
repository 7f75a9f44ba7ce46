# SPDX-License-Identifier: Apache-2.0
"""Blocks that are still in the kernel, and the sums of those that ended there.

bpf/young_blocks.h is the other side: it keeps them in a table, from which this takes them.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping

import numpy as np

from kwatch.aggregate.order import stable_argsort
from kwatch.kernel import bpf
from kwatch.wire.batches import chosen, concatenated
from kwatch.wire.events import HEAP, Batch, count_events
from kwatch.wire.maps import YOUNG_ENTRIES, YoungState


class YoungBlocks:
    """The table. `program`, TAKE_YOUNG of kwatch.programs.sources, takes out a group of entries."""

    def __init__(self, maps: Mapping[str, bpf.Map], program: int, by_stack: bool) -> None:
        """`by_stack`: sums are kept for each stack. Raises OSError."""
        self._program = program
        self._state_memory = mmap.mmap(maps["young_state"].fd, mmap.PAGESIZE)
        self._state = YoungState.from_buffer(self._state_memory)
        self._state.by_stack = by_stack
        self._is_used = np.frombuffer(self._state_memory, np.uint64)[1:][: len(self._state.is_used)]
        size = -(-YOUNG_ENTRIES * HEAP.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        self._taken_memory = mmap.mmap(maps["taken_blocks"].fd, size, prot=mmap.PROT_READ)
        self._taken = np.frombuffer(self._taken_memory, HEAP, YOUNG_ENTRIES)
        self._kept: Batch = np.empty(0, HEAP)

    def take(self) -> None:
        """Empties the table.

        Call this after the clock is read for the end of a batch, and before the rings are read:
        then no event of a block is read before the one that began it.
        """
        count = 0
        used = self._is_used.copy()  # numpy counts, then looks: the kernel must not write between
        for group in np.flatnonzero(used).tolist():
            count = bpf.run_program(self._program, group, count)
        if count:
            self._kept = concatenated((self._kept, self._taken[:count]))

    def read(self, cut_ns: int) -> Batch:
        """What was taken from before `cut_ns`, in order of time.

        ALLOC and REUSED events of blocks, PAIRS and RELEASES with sums.
        """
        times = np.ascontiguousarray(self._kept["time_ns"])
        order = stable_argsort(times)
        count = int(np.searchsorted(times[order], np.uint64(cut_ns)))
        old, self._kept = chosen(self._kept, order[:count]), chosen(self._kept, order[count:])
        return old

    def left(self, until_ns: int) -> int:
        """How many events from before `until_ns` have been taken and not read."""
        return count_events(self._kept[self._kept["time_ns"] < np.uint64(until_ns)])

    def close(self) -> None:
        del self._state, self._is_used, self._taken
        for memory in (self._state_memory, self._taken_memory):
            # During an exception, its traceback may still hold views of the memory.
            with contextlib.suppress(BufferError):
                memory.close()
