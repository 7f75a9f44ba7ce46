# SPDX-License-Identifier: Apache-2.0
"""Gives each (process slot, ABI, system call number) that occurs a row: a small dense int."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import Index

#: No table has more ABIs or numbers; the numbers beyond are counted together, as the last one.
ABIS = 8
NUMBERS = 1024

Small = npt.NDArray[np.integer]


class CallRows:
    """Rows are given out from 0 and reused after `drop`."""

    def __init__(self) -> None:
        self.capacity = 0
        self._keys: list[int] = [-1]  # (abi, nr) of a column, packed; column 0 stands for none
        self._column_of = np.zeros(ABIS * NUMBERS, np.intp)
        self._row_of = np.full((0, 1), -1, np.int32)  # by slot and column
        self._free: list[int] = []

    def rows_of(self, slots: Index, abis: Small, numbers: Small) -> Index:
        """The row of each event; new ones are made as needed."""
        if len(slots) == 0:
            return np.empty(0, np.intp)
        self._widen(int(slots.max()) + 1, len(self._keys))
        keys = abis.astype(np.intp) * NUMBERS
        keys += np.minimum(numbers, NUMBERS - 1)
        rows = self._look_up(slots, keys)
        if rows.min() < 0:
            new = rows < 0
            self._make_rows(slots[new], keys[new])
            rows = self._look_up(slots, keys)
        return rows.astype(np.intp)

    def of_slot(self, slot: int) -> Iterator[tuple[int, int, int]]:
        """(abi, nr, row) of everything that the slot has."""
        if slot < len(self._row_of):
            row_of = self._row_of[slot]
            for column in np.flatnonzero(row_of >= 0).tolist():
                yield *divmod(self._keys[column], NUMBERS), int(row_of[column])

    @property
    def nbytes(self) -> int:
        return self._row_of.nbytes + self._column_of.nbytes

    def drop(self, slot: int) -> Index:
        """Give the slot's rows back; which ones they were."""
        rows = np.array([row for _, _, row in self.of_slot(slot)], np.intp)
        self._row_of[slot : slot + 1] = -1
        self._free.extend(rows.tolist())
        return rows

    def _look_up(self, slots: Index, keys: Index) -> npt.NDArray[np.int32]:
        cells = slots * self._row_of.shape[1]
        cells += self._column_of.take(keys)
        return self._row_of.ravel().take(cells)

    def _make_rows(self, slots: Index, keys: Index) -> None:
        for key in np.unique(keys[self._column_of[keys] == 0]).tolist():
            self._column_of[key] = len(self._keys)
            self._keys.append(key)
        self._widen(0, len(self._keys))
        cells = slots * self._row_of.shape[1] + self._column_of[keys]
        for cell in np.unique(cells).tolist():
            self._row_of.ravel()[cell] = self._take_row()

    def _take_row(self) -> int:
        if self._free:
            return self._free.pop()
        self.capacity += 1
        return self.capacity - 1

    def _widen(self, slots: int, columns: int) -> None:
        """Room for so many, with some to spare: each time costs a copy."""
        held_slots, held_columns = self._row_of.shape
        if slots > held_slots:
            held_slots = max(slots, held_slots * 3 // 2)
        if columns > held_columns:
            held_columns = max(columns, held_columns * 3 // 2)
        if (held_slots, held_columns) != self._row_of.shape:
            wider = np.full((held_slots, held_columns), -1, np.int32)
            wider[: self._row_of.shape[0], : self._row_of.shape[1]] = self._row_of
            self._row_of = wider
