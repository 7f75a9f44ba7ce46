# SPDX-License-Identifier: Apache-2.0
"""System calls counted for each process by call and stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.call_cells import NUMBERS
from kwatch.aggregate.order import U64, Index
from kwatch.aggregate.syscalls import FIRST_ERROR
from kwatch.wire.events import STACK_IDS, Batch, EventType

#: Calls and stacks of one process that are told apart; those that come later are counted together.
MOST = 16384

_OTHERS = 1 << 32  # beyond all calls: ABI and number in one
_KEYS = ("key", "slot", "call", "stack")
_SUMS = ("calls", "errors", "total_ns")
_LAST = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


class CallRow(NamedTuple):
    """Calls of one kind from one stack."""

    abi: int
    nr: int
    stack: int
    calls: int
    errors: int
    total_ns: int


class CallStackAccount:
    """All processes of a session; the caller gives each a slot, a small dense int.

    Rows are sorted by a hash of what they count, so that a search finds those of a whole batch.
    Stacks are known by hashes as long; two rows with one key are as unlikely as two stacks with
    one id. The last row is nobody's.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._columns = {name: np.zeros(1, np.uint64) for name in _KEYS + _SUMS}
        self._columns["key"][0] = _LAST

    @property
    def nbytes(self) -> int:
        """The memory that this object holds."""
        return sum(column.nbytes for column in self._columns.values())

    def add(self, batch: Batch, slots: Index) -> None:
        """Events of dtype `kwatch.wire.events.STACKED_SYSCALL`, with the slot of each process."""
        finished = batch["type"] == EventType.SYSCALL
        if not finished.all():
            batch, slots = batch[finished], slots[finished]
        calls = batch["abi"].astype(np.uint64) * np.uint64(NUMBERS)
        calls += np.minimum(batch["nr"], np.uint16(NUMBERS - 1))
        stacks = np.ascontiguousarray(batch["stack"])
        rows = self._rows_of(slots.astype(np.uint64), calls, stacks)
        failed = np.flatnonzero(batch["result"].view(np.uint64) >= FIRST_ERROR)
        np.add.at(self._columns["calls"], rows, _ONE)
        np.add.at(self._columns["errors"], rows[failed], _ONE)
        np.add.at(self._columns["total_ns"], rows, np.ascontiguousarray(batch["duration_ns"]))

    def rows(self, slot: int) -> Iterator[CallRow]:
        """What was counted apart, in any order."""
        mine = self._of(slot) & (self._columns["call"] != _OTHERS)
        columns = [self._columns[name][mine].tolist() for name in ("call", "stack", *_SUMS)]
        for call, *rest in zip(*columns, strict=True):
            yield CallRow(*divmod(call, NUMBERS), *rest)

    def others(self, slot: int) -> int:
        """Calls that came when there were too many rows already."""
        mine = self._of(slot) & (self._columns["call"] == _OTHERS)
        return int(self._columns["calls"][mine].sum())

    def stacks(self, slot: int) -> set[int]:
        """The ids of all stacks that were counted."""
        stacks = self._columns["stack"][self._of(slot)]
        return set(stacks[stacks >= STACK_IDS].tolist())

    def drop(self, slot: int) -> None:
        """Forget a process; its slot may be given to another one."""
        mine = self._of(slot)
        if mine.any():
            self._columns = {name: column[~mine] for name, column in self._columns.items()}

    def _of(self, slot: int) -> npt.NDArray[np.bool_]:
        mine: npt.NDArray[np.bool_] = self._columns["slot"] == slot
        mine[-1] = False
        return mine

    def _rows_of(self, slots: U64, calls: U64, stacks: U64) -> Index:
        """The row of each event; new ones are made as needed."""
        keys = _keys(slots, calls, stacks)
        rows = np.searchsorted(self._columns["key"], keys)
        new = np.flatnonzero(self._columns["key"][rows] != keys)
        if not len(new):
            return rows
        distinct, first, place = np.unique(keys[new], return_index=True, return_inverse=True)
        first = new[first]
        added = {"key": distinct, "slot": slots[first], "call": calls[first]}
        added["stack"] = stacks[first]
        self._spare(added)
        keys[new] = added["key"][place]
        self._insert(added)
        return np.searchsorted(self._columns["key"], keys)

    def _spare(self, added: dict[str, U64]) -> None:
        """Of a process that would have too many rows, all calls but the first are `_OTHERS`."""
        order = np.argsort(added["slot"], kind="stable")
        slots, starts, counts = np.unique(
            added["slot"][order], return_index=True, return_counts=True
        )
        held = np.array([np.count_nonzero(self._of(int(slot))) for slot in slots.tolist()])
        rank = np.arange(len(order)) - np.repeat(starts, counts)
        beyond = order[rank + np.repeat(held, counts) >= self._most]
        added["call"][beyond] = _OTHERS
        added["stack"][beyond] = 0
        added["key"][beyond] = _keys(
            added["slot"][beyond], added["call"][beyond], added["stack"][beyond]
        )

    def _insert(self, added: dict[str, U64]) -> None:
        keys, first = np.unique(added["key"], return_index=True)
        at = np.searchsorted(self._columns["key"], keys)
        new = self._columns["key"][at] != keys  # a row of others may be there
        for name, column in self._columns.items():
            values = added[name][first[new]] if name in added else np.uint64(0)
            self._columns[name] = np.insert(column, at[new], values)


def _keys(slots: U64, calls: U64, stacks: U64) -> U64:
    """Different for all stacks of one call in one process."""
    keys = (slots << np.uint64(33) | calls) * np.uint64(0x9E3779B97F4A7C15)
    keys ^= stacks
    keys *= np.uint64(0xD6E8FEB86659FD93)
    np.minimum(keys, _LAST - _ONE, out=keys)
    return keys
