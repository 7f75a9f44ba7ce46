# SPDX-License-Identifier: Apache-2.0
"""Counts the system calls of each process by call and stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.call_cells import MAX_SYSCALLS
from kwatch.aggregate.order import U64, Index
from kwatch.aggregate.syscalls import FIRST_ERROR
from kwatch.wire.events import STACK_IDS, Batch, EventType

#: (call, stack) rows of one process. Calls that would need more rows are counted together.
MAX_ROWS = 16384

_OTHERS = 1 << 32  # larger than any call, which is ABI and number in one
_KEYS = ("key", "slot", "call", "stack")
_SUMS = ("calls", "errors", "total_ns")
_LAST = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


class CallRow(NamedTuple):
    """The system calls with one number from one stack."""

    abi: int
    nr: int
    stack: int
    calls: int
    errors: int
    total_ns: int


class SyscallStackAccount:
    """All processes of a session. The user gives each a slot, a small dense integer.

    Rows are sorted by a 64-bit hash of process, call and stack, so that one search finds the rows
    of a whole batch. Stack ids are hashes of the same length: two rows with one key are as unlikely
    as two stacks with one id. The last row is a sentinel.
    """

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._columns = {name: np.zeros(1, np.uint64) for name in _KEYS + _SUMS}
        self._columns["key"][0] = _LAST

    @property
    def nbytes(self) -> int:
        """The memory of this object."""
        return sum(column.nbytes for column in self._columns.values())

    def add(self, batch: Batch, slots: Index) -> None:
        """Adds events of dtype `kwatch.wire.events.STACKED_SYSCALL`, with the slot of each."""
        finished = batch["type"] == EventType.SYSCALL
        if not finished.all():
            batch, slots = batch[finished], slots[finished]
        calls = batch["abi"].astype(np.uint64) * np.uint64(MAX_SYSCALLS)
        calls += np.minimum(batch["nr"], np.uint16(MAX_SYSCALLS - 1))
        stacks = np.ascontiguousarray(batch["stack"])
        rows = self._rows_of(slots.astype(np.uint64), calls, stacks)
        failed = np.flatnonzero(batch["result"].view(np.uint64) >= FIRST_ERROR)
        np.add.at(self._columns["calls"], rows, _ONE)
        np.add.at(self._columns["errors"], rows[failed], _ONE)
        np.add.at(self._columns["total_ns"], rows, np.ascontiguousarray(batch["duration_ns"]))

    def rows(self, slot: int) -> Iterator[CallRow]:
        """The rows of a process, in any order."""
        mine = self._of(slot) & (self._columns["call"] != _OTHERS)
        columns = [self._columns[name][mine].tolist() for name in ("call", "stack", *_SUMS)]
        for call, *rest in zip(*columns, strict=True):
            yield CallRow(*divmod(call, MAX_SYSCALLS), *rest)

    def others(self, slot: int) -> int:
        """The calls of a process that were counted together."""
        mine = self._of(slot) & (self._columns["call"] == _OTHERS)
        return int(self._columns["calls"][mine].sum())

    def stacks(self, slot: int) -> set[int]:
        """The ids of all stacks of a process."""
        stacks = self._columns["stack"][self._of(slot)]
        return set(stacks[stacks >= STACK_IDS].tolist())

    def drop(self, slot: int) -> None:
        """Removes a process, so that its slot can be reused."""
        mine = self._of(slot)
        if mine.any():
            self._columns = {name: column[~mine] for name, column in self._columns.items()}

    def _of(self, slot: int) -> npt.NDArray[np.bool_]:
        mine: npt.NDArray[np.bool_] = self._columns["slot"] == slot
        mine[-1] = False
        return mine

    def _rows_of(self, slots: U64, calls: U64, stacks: U64) -> Index:
        """The row of each event. Makes rows as needed."""
        keys = _keys(slots, calls, stacks)
        rows = np.searchsorted(self._columns["key"], keys)
        new = np.flatnonzero(self._columns["key"][rows] != keys)
        if not len(new):
            return rows
        distinct, first, place = np.unique(keys[new], return_index=True, return_inverse=True)
        first = new[first]
        added = {"key": distinct, "slot": slots[first], "call": calls[first]}
        added["stack"] = stacks[first]
        self._limit(added)
        keys[new] = added["key"][place]
        self._insert(added)
        return np.searchsorted(self._columns["key"], keys)

    def _limit(self, added: dict[str, U64]) -> None:
        """Turns the rows of a process that are too many into its row for `_OTHERS`."""
        order = np.argsort(added["slot"], kind="stable")
        slots, starts, counts = np.unique(
            added["slot"][order], return_index=True, return_counts=True
        )
        held = np.array([np.count_nonzero(self._of(int(slot))) for slot in slots.tolist()])
        rank = np.arange(len(order)) - np.repeat(starts, counts)
        beyond = order[rank + np.repeat(held, counts) >= self._max_rows]
        added["call"][beyond] = _OTHERS
        added["stack"][beyond] = 0
        added["key"][beyond] = _keys(
            added["slot"][beyond], added["call"][beyond], added["stack"][beyond]
        )

    def _insert(self, added: dict[str, U64]) -> None:
        keys, first = np.unique(added["key"], return_index=True)
        at = np.searchsorted(self._columns["key"], keys)
        new = self._columns["key"][at] != keys  # the row for `_OTHERS` may exist
        for name, column in self._columns.items():
            values = added[name][first[new]] if name in added else np.uint64(0)
            self._columns[name] = np.insert(column, at[new], values)


def _keys(slots: U64, calls: U64, stacks: U64) -> U64:
    """Keys of rows; those of one call in one process differ for all stacks."""
    keys = (slots << np.uint64(33) | calls) * np.uint64(0x9E3779B97F4A7C15)
    keys ^= stacks
    keys *= np.uint64(0xD6E8FEB86659FD93)
    np.minimum(keys, _LAST - _ONE, out=keys)
    return keys
