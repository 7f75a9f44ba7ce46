# SPDX-License-Identifier: Apache-2.0
"""Gives each (process slot, ABI, system call number, range of durations) that occurs a cell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.distinct import distinct_values
from kwatch.aggregate.histogram import RANGES
from kwatch.aggregate.order import Index
from kwatch.wire.events import Batch, Types

#: No kernel has more; numbers beyond are counted together, as the last one of the first ABI.
NUMBERS = 1024

U32 = npt.NDArray[np.uint32]
_I32 = npt.NDArray[np.int32]

# A call is known by nr << 8 | abi, as a record has them behind the type; no larger ones are told
# apart.
_TYPE_BITS = 8
_ABI_BITS = 8
_LAST = (NUMBERS - 1) << _ABI_BITS


class Cell(NamedTuple):
    """`number` is what the cell's counters are indexed by."""

    abi: int
    nr: int
    range: int
    number: int


class CallCells:
    """Cells are small dense ints, given out from 0 and reused after `drop`."""

    def __init__(self) -> None:
        self.capacity = 0
        self._calls: list[int] = [-1]  # by column; column 0 stands for none
        self._column_of = np.zeros(_LAST + 1, np.int32)  # RANGES times the column
        self._cell_of = np.full((0, RANGES), -1, np.int32)  # by slot; then by column and range
        self._free: list[int] = []

    def cells_of(self, slots: Index, heads: U32, ranges: _I32) -> Index:
        """The cell of each event, by its `heads_of`; new ones are made as needed."""
        if len(slots) == 0:
            return np.empty(0, np.intp)
        calls = heads >> np.uint32(_TYPE_BITS)
        np.minimum(calls, np.uint32(_LAST), out=calls)
        self._widen(int(slots.max()) + 1, len(self._calls))
        cells = self._look_up(slots, calls, ranges)
        if cells.min() < 0:
            new = cells < 0
            self._make_cells(slots[new], calls[new], ranges[new])
            cells = self._look_up(slots, calls, ranges)
        return cells.astype(np.intp)

    def of_slot(self, slot: int) -> Iterator[Cell]:
        """Everything that the slot has."""
        if slot < len(self._cell_of):
            cell_of = self._cell_of[slot]
            for place in np.flatnonzero(cell_of >= 0).tolist():
                column, range_ = divmod(place, RANGES)
                nr, abi = divmod(self._calls[column], 1 << _ABI_BITS)
                yield Cell(abi, nr, range_, int(cell_of[place]))

    @property
    def nbytes(self) -> int:
        return self._cell_of.nbytes + self._column_of.nbytes

    def drop(self, slot: int) -> Index:
        """Give the slot's cells back; which ones they were."""
        cells = np.array([cell.number for cell in self.of_slot(slot)], np.intp)
        self._cell_of[slot : slot + 1] = -1
        self._free.extend(cells.tolist())
        return cells

    def _places(self, slots: Index, calls: U32, ranges: _I32) -> Index:
        places = slots * self._cell_of.shape[1]
        places += self._column_of.take(calls)
        places += ranges
        return places

    def _look_up(self, slots: Index, calls: U32, ranges: _I32) -> _I32:
        return self._cell_of.ravel().take(self._places(slots, calls, ranges))

    def _make_cells(self, slots: Index, calls: U32, ranges: _I32) -> None:
        for call in distinct_values(calls[self._column_of[calls] == 0]):
            self._column_of[call] = len(self._calls) * RANGES
            self._calls.append(call)
        self._widen(0, len(self._calls))
        for place in distinct_values(self._places(slots, calls, ranges)):
            self._cell_of.ravel()[place] = self._take_cell()

    def _take_cell(self) -> int:
        if self._free:
            return self._free.pop()
        self.capacity += 1
        return self.capacity - 1

    def _widen(self, slots: int, columns: int) -> None:
        """Room for so many, with some to spare: each time costs a copy."""
        held_slots, width = self._cell_of.shape
        held_columns = width // RANGES
        if slots > held_slots:
            held_slots = max(slots, held_slots * 3 // 2)
        if columns > held_columns:
            held_columns = max(columns, held_columns * 3 // 2)
        if (held_slots, held_columns * RANGES) != self._cell_of.shape:
            wider = np.full((held_slots, held_columns * RANGES), -1, np.int32)
            wider[: self._cell_of.shape[0], : self._cell_of.shape[1]] = self._cell_of
            self._cell_of = wider


def heads_of(batch: Batch) -> U32:
    """`type`, `abi` and `nr` of each in one number, read at once: they follow each other."""
    return np.ascontiguousarray(batch.view(_heads(batch.dtype.itemsize))["head"])


def types_in(heads: U32) -> Types:
    return heads.astype(np.uint8)


@cache
def _heads(itemsize: int) -> np.dtype[np.void]:
    """The first four bytes of a record as one number."""
    return np.dtype({"names": ["head"], "formats": ["<u4"], "offsets": [0], "itemsize": itemsize})
