# SPDX-License-Identifier: Apache-2.0
"""The last block at each address, live or freed, in sorted arrays that are updated in batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kwatch.aggregate.blocks import Mask
from kwatch.aggregate.order import U64, stable_argsort
from kwatch.wire.batches import chosen, concatenated
from kwatch.wire.events import Batch

#: `free_ns` is 0 while the block is live, `alloc_ns` if its allocation was not seen. Functions are
#: indices into kwatch.wire.allocators, allocators the numbers of probed files (0: not known).
#: `by_realloc`: a realloc has freed it.
BLOCK = np.dtype(
    [
        ("address", "u8"),
        ("size", "u8"),
        ("alloc_ns", "u8"),
        ("alloc_stack", "u8"),
        ("free_ns", "u8"),
        ("free_stack", "u8"),
        ("alloc_tid", "u4"),
        ("free_tid", "u4"),
        ("alloc_allocator", "u2"),
        ("free_allocator", "u2"),
        ("alloc_function", "u1"),
        ("free_function", "u1"),
        ("by_realloc", "u1"),
        ("reserved", "u1"),
    ]
)

#: A run is merged into the next older one if that is at most this many times as long.
_MERGE_RATIO = 4
_MAX_FREED = 1 << 20  # the oldest of more are forgotten, some of them late


class _Run(NamedTuple):
    """`rows` by ascending address. Never changed."""

    addresses: U64
    rows: Batch


class BlockTable:
    """A log of sorted runs; rows of newer runs stand for older ones of the same address."""

    def __init__(self, max_freed: int = _MAX_FREED) -> None:
        self._max_freed = max_freed
        self._runs: list[_Run] = []
        self._live: Batch | None = None

    def find(self, addresses: U64) -> tuple[Mask, Batch]:
        """Which of the addresses have a row, and the rows, with zeros where there is none."""
        found = np.zeros(len(addresses), bool)
        rows = np.zeros(len(addresses), BLOCK)
        missing = np.arange(len(addresses))
        for run in reversed(self._runs):
            if not len(missing):
                break
            wanted = addresses[missing]
            at = np.minimum(run.addresses.searchsorted(wanted), len(run.addresses) - 1)
            hit = run.addresses[at] == wanted
            found[missing[hit]] = True
            rows[missing[hit]] = chosen(run.rows, at[hit])
            missing = missing[~hit]
        return found, rows

    def put(self, rows: Batch) -> None:
        """Takes rows by ascending address, each address once."""
        if not len(rows):
            return
        self._live = None
        self._runs.append(_run(rows))
        while len(self._runs) > 1 and self._is_due():
            new, old = self._runs.pop(), self._runs.pop()
            self._runs.append(self._merged(old, new))

    def live(self) -> Batch:
        """The live blocks by ascending address. They do not overlap if no free was missed."""
        if self._live is None:
            while len(self._runs) > 1:
                new, old = self._runs.pop(), self._runs.pop()
                self._runs.append(self._merged(old, new))
            rows = self._runs[0].rows if self._runs else np.zeros(0, BLOCK)
            self._live = chosen(rows, rows["free_ns"] == 0)
        return self._live

    def stack_ids(self) -> set[int]:
        """Every stack that a row refers to."""
        found: set[int] = set()
        for run in self._runs:
            for name in ("alloc_stack", "free_stack"):
                found.update(np.unique(run.rows[name]).tolist())
        return found

    def copy(self) -> BlockTable:
        """An independent copy that shares the memory of the runs."""
        twin = BlockTable(self._max_freed)
        twin._runs = list(self._runs)
        return twin

    def _is_due(self) -> bool:
        return len(self._runs[-2].addresses) <= _MERGE_RATIO * len(self._runs[-1].addresses)

    def _merged(self, old: _Run, new: _Run) -> _Run:
        at = np.minimum(new.addresses.searchsorted(old.addresses), len(new.addresses) - 1)
        kept = chosen(old.rows, new.addresses[at] != old.addresses)
        rows = concatenated([kept, new.rows])
        if not self._runs:  # an older run may have a row of the same block, which lived then
            rows = self._without_oldest(rows)
        return _run(chosen(rows, stable_argsort(np.ascontiguousarray(rows["address"]))))

    def _without_oldest(self, rows: Batch) -> Batch:
        freed = np.ascontiguousarray(rows["free_ns"])
        more = int(np.count_nonzero(freed)) - self._max_freed
        if more <= 0:
            return rows
        oldest = np.partition(freed[freed > 0], more - 1)[more - 1]
        return chosen(rows, (freed == 0) | (freed > oldest))


def _run(rows: Batch) -> _Run:
    return _Run(np.ascontiguousarray(rows["address"]), rows)
