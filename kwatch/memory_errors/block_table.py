# SPDX-License-Identifier: Apache-2.0
"""The last block at each address, live or freed, in sorted arrays that are updated in batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kwatch.aggregate.blocks import Mask
from kwatch.aggregate.order import U64, Index, stable_argsort
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
_NEAR = 4  # a block is searched for in this many rows at first,
_WIDER = 4  # and then in this many times as many each time
_MAX_FREED = 1 << 20  # the oldest of more are forgotten, some of them late


class _Run(NamedTuple):
    """`rows` by ascending address, at least one. Never changed."""

    addresses: U64
    rows: Batch


class BlockTable:
    """A log of sorted runs; rows of newer runs stand for older ones of the same address."""

    def __init__(self, max_freed: int = _MAX_FREED) -> None:
        self._max_freed = max_freed
        self._runs: list[_Run] = []

    def find(self, addresses: U64) -> tuple[Mask, Batch]:
        """Which of the addresses have a row, and the rows, with zeros where there is none."""
        found = np.zeros(len(addresses), bool)
        rows = np.zeros(len(addresses), BLOCK)
        missing = np.arange(len(addresses))
        for run in reversed(self._runs):
            if not len(missing):
                break
            hit, at = _places(run.addresses, addresses[missing])
            found[missing[hit]] = True
            rows[missing[hit]] = chosen(run.rows, at[hit])
            missing = missing[~hit]
        return found, rows

    def put(self, rows: Batch) -> None:
        """Takes rows by ascending address, each address once."""
        if not len(rows):
            return
        self._runs.append(_run(rows))
        while len(self._runs) > 1 and self._is_due():
            new, old = self._runs.pop(), self._runs.pop()
            self._runs.append(self._merged(old, new))
        if not len(self._runs[0].addresses):  # all that it had is forgotten
            del self._runs[0]

    def live_before(self, addresses: U64) -> Batch:
        """The live block that begins last before each address; zeros where there is none.

        `addresses` ascend.
        """
        rows = np.zeros(len(addresses), BLOCK)
        for number in reversed(range(len(self._runs))):
            run = self._runs[number]
            ends = run.addresses.searchsorted(addresses)
            places = self._last_standing(number, ends)
            later = np.flatnonzero(places >= 0)
            later = later[run.addresses[places[later]] > rows["address"][later]]
            rows[later] = chosen(run.rows, places[later])
        return rows

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

    def _last_standing(self, number: int, ends: Index) -> Index:
        """The last place before each end where a row of the run stands; -1 if none does."""
        near = ends[:, None] - np.arange(1, _NEAR + 1)
        stands = self._stands(number, np.maximum(near, 0)) & (near >= 0)
        is_near = stands.any(axis=1)
        places: Index = np.where(is_near, near[np.arange(len(ends)), stands.argmax(axis=1)], -1)
        pending = np.flatnonzero(~is_near & (ends > _NEAR))
        while len(pending):  # from the highest end; those that follow it down to the place share it
            place = self._walked(number, int(ends[pending[-1]]) - _NEAR)
            is_shared = ends[pending] > place
            places[pending[is_shared]] = place
            pending = pending[~is_shared]
        return places

    def _walked(self, number: int, end: int) -> int:
        """The same for one end. It looks at more and more rows at a time."""
        width = _NEAR
        while end > 0:
            width *= _WIDER
            window = np.arange(max(end - width, 0), end)
            standing = window[self._stands(number, window)]
            if len(standing):
                return int(standing[-1])
            end -= width
        return -1

    def _stands(self, number: int, places: Index) -> Mask:
        """Whether the rows at the places of a run are live and no newer run has one."""
        run = self._runs[number]
        stands: Mask = run.rows["free_ns"][places] == 0
        for newer in self._runs[number + 1 :]:
            at = np.flatnonzero(stands)
            hit, _ = _places(newer.addresses, run.addresses[places.flat[at]])
            stands.flat[at[hit]] = False
        return stands

    def _is_due(self) -> bool:
        return len(self._runs[-2].addresses) <= _MERGE_RATIO * len(self._runs[-1].addresses)

    def _merged(self, old: _Run, new: _Run) -> _Run:
        is_replaced, _ = _places(new.addresses, old.addresses)
        kept = chosen(old.rows, ~is_replaced)
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


def _places(addresses: U64, wanted: U64) -> tuple[Mask, Index]:
    """Which of the wanted addresses are among the sorted ones, and where."""
    at = np.minimum(addresses.searchsorted(wanted), len(addresses) - 1)
    hit: Mask = addresses[at] == wanted
    return hit, at
