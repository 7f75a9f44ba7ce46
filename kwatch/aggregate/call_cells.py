# SPDX-License-Identifier: Apache-2.0
"""Numbers the (process slot, ABI, system call number, range of durations) that occur."""

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

#: Kernels have fewer. Higher numbers are counted together, as the last one of the first ABI.
MAX_SYSCALLS = 1024

U32 = npt.NDArray[np.uint32]
_I32 = npt.NDArray[np.int32]

# A system call is known by nr << 8 | abi, which follow the type in a record. Larger values are not
# told apart.
_TYPE_BITS = 8
_ABI_BITS = 8
_LAST = (MAX_SYSCALLS - 1) << _ABI_BITS


class Cell(NamedTuple):
    """`number` is the index of the cell in columns of counters."""

    abi: int
    nr: int
    range: int
    number: int


class CallCells:
    """Cells are small dense integers from 0 on, reused after `drop`."""

    def __init__(self) -> None:
        self.capacity = 0
        self._calls: list[int] = [-1]  # by column; column 0 is unused
        self._column_of = np.zeros(_LAST + 1, np.int32)  # RANGES times the column
        self._cell_of = np.full((0, RANGES), -1, np.int32)  # by slot; then by column and range
        self._free: list[int] = []

    def cells_of(self, slots: Index, heads: U32, ranges: _I32) -> Index:
        """The cell of each event, from its slot, `heads_of` and range. Makes cells as needed."""
        return self.cells_of_calls(slots, heads >> np.uint32(_TYPE_BITS), ranges)

    def cells_of_calls(self, slots: Index, calls: U32, ranges: _I32) -> Index:
        """The same from each event's nr << 8 | abi, which may be changed."""
        if len(slots) == 0:
            return np.empty(0, np.intp)
        np.minimum(calls, np.uint32(_LAST), out=calls)
        self._widen(int(slots.max()) + 1, len(self._calls))
        cells = self._look_up(slots, calls, ranges)
        if cells.min() < 0:
            new = cells < 0
            self._make_cells(slots[new], calls[new], ranges[new])
            cells = self._look_up(slots, calls, ranges)
        return cells.astype(np.intp)

    def of_slot(self, slot: int) -> Iterator[Cell]:
        """The cells of a slot."""
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
        """Frees the cells of a slot, and returns their numbers."""
        cells = self.numbers(slot)
        self._cell_of[slot : slot + 1] = -1
        self._free.extend(cells.tolist())
        return cells

    def numbers(self, slot: int) -> Index:
        """The numbers of the cells of a slot."""
        row = self._cell_of[slot : slot + 1].ravel()
        return row[row >= 0].astype(np.intp)

    def move(self, source: int, into: int) -> tuple[Index, Index]:
        """The cells of a slot, and the cells of the same calls of another one, made as needed."""
        row = self._cell_of[source : source + 1].ravel()
        places = np.flatnonzero(row >= 0)
        columns, ranges = np.divmod(places, RANGES)
        calls = np.array([self._calls[column] for column in columns.tolist()], np.uint32)
        into_slots = np.full(len(places), into)
        cells = self.cells_of_calls(into_slots, calls, ranges.astype(np.int32))
        return row[places].astype(np.intp), cells

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
        """Makes room for so many, and for some more: each time costs a copy."""
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
    """`type`, `abi` and `nr` of each event in one number, as adjacent fields."""
    return np.ascontiguousarray(batch.view(_heads(batch.dtype.itemsize))["head"])


def types_in(heads: U32) -> Types:
    return heads.astype(np.uint8)


@cache
def _heads(itemsize: int) -> np.dtype[np.void]:
    """The first four bytes of a record as one number."""
    return np.dtype({"names": ["head"], "formats": ["<u4"], "offsets": [0], "itemsize": itemsize})
