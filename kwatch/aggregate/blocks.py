# SPDX-License-Identifier: Apache-2.0
"""The live blocks of one heap, in sorted arrays that are updated in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64, Index, stable_argsort

Mask = npt.NDArray[np.bool_]

#: A run is merged into the next older one if that is at most this many times as long.
_MERGE_RATIO = 4


class Blocks(NamedTuple):
    """One column for each property. `stacks` are the 64-bit ids of the wire format."""

    addresses: U64
    sizes: U64
    stacks: U64
    times: U64

    def where(self, chosen: Mask | Index) -> Blocks:
        return Blocks(*(column[chosen] for column in self))


class _Run:
    """Blocks sorted by address. Some may have ended. Its columns are never changed."""

    __slots__ = ("alive", "columns", "live")

    def __init__(self, columns: Blocks, alive: Mask | None = None) -> None:
        self.columns = columns
        self.alive = np.ones(len(self), bool) if alive is None else alive
        self.live = int(np.count_nonzero(self.alive))

    def __len__(self) -> int:
        return len(self.columns.addresses)

    def locate(self, addresses: U64) -> tuple[Mask, Index]:
        """Which of the addresses are live in this run, and their indexes in it."""
        at = self.columns.addresses.searchsorted(addresses)
        np.minimum(at, len(self) - 1, out=at)
        found = (self.columns.addresses.take(at) == addresses) & self.alive.take(at)
        return found, at[found]

    def end(self, at: Index) -> None:
        self.alive[at] = False
        self.live -= len(at)
        if self.live * 2 < len(self):
            self.compact()

    def compact(self) -> None:
        if self.live < len(self):
            self.columns = self.columns.where(self.alive)
            self.alive = np.ones(self.live, bool)

    def copy(self) -> _Run:
        """Shares the columns."""
        return _Run(self.columns, self.alive.copy())


class LiveBlocks:
    """A log of sorted runs, which are merged as they grow. Older runs are longer.

    A batch of b blocks costs O(b log² n), including merges. A block takes 33 bytes, and up to twice
    as much if others in its run have ended. The addresses that a method takes must be distinct.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._bytes = 0

    def __len__(self) -> int:
        return sum(run.live for run in self._runs)

    @property
    def bytes(self) -> int:
        """The sum of the blocks' sizes."""
        return self._bytes

    @property
    def nbytes(self) -> int:
        """The memory of this object, including what it shares with copies."""
        held = (column for run in self._runs for column in (*run.columns, run.alive))
        return sum(column.nbytes for column in held)

    def insert(self, addresses: U64, sizes: U64, stacks: U64, times: U64) -> int:
        """Adds blocks. Returns how many live blocks they supersede, those of the same address."""
        if len(addresses) == 0:
            return 0
        superseded, _ = self.discard(addresses)
        blocks = Blocks(addresses, sizes, stacks, times)
        if np.any(addresses[1:] < addresses[:-1]):
            blocks = blocks.where(stable_argsort(addresses))
        self._runs.append(_Run(blocks))
        self._bytes += int(sizes.sum())
        self._settle()
        return superseded

    def find(self, addresses: U64) -> tuple[Mask, U64, U64, U64]:
        """(found, sizes, stacks, times) for each address; zeros if no block is live there.

        Sorted addresses are several times faster.
        """
        found = np.zeros(len(addresses), bool)
        sizes, stacks, times = np.zeros((3, len(addresses)), np.uint64)
        for run, which, at in self._hits(addresses):
            found[which] = True
            sizes[which] = run.columns.sizes[at]
            stacks[which] = run.columns.stacks[at]
            times[which] = run.columns.times[at]
        return found, sizes, stacks, times

    def discard(self, addresses: U64) -> tuple[int, int]:
        """Removes the live blocks at these addresses. Returns their number and bytes."""
        known, total = self.end(addresses)
        return int(np.count_nonzero(known)), total

    def end(self, addresses: U64) -> tuple[Mask, int]:
        """The same. Returns at which of the addresses a block was live, and the bytes."""
        known = np.zeros(len(addresses), bool)
        total = 0
        for run, which, at in self._hits(addresses):
            known[which] = True
            total += int(run.columns.sizes[at].sum())
            run.end(at)
        self._bytes -= total
        self._runs = [run for run in self._runs if run.live]
        return known, total

    def arrays(self) -> Blocks:
        """All live blocks by address, as read-only views of the columns of this object."""
        while len(self._runs) > 1:
            self._merge(len(self._runs) - 1)
        if not self._runs:
            return Blocks(*np.empty((4, 0), np.uint64))
        self._runs[0].compact()
        views = [column.view() for column in self._runs[0].columns]
        for view in views:
            view.flags.writeable = False
        return Blocks(*views)

    def copy(self) -> LiveBlocks:
        """An independent copy that shares memory: one byte per block until either changes."""
        twin = LiveBlocks()
        twin._runs = [run.copy() for run in self._runs]
        twin._bytes = self._bytes
        return twin

    def clear(self) -> None:
        self._runs = []
        self._bytes = 0

    def _hits(self, addresses: U64) -> Iterator[tuple[_Run, Index, Index]]:
        """For each run, which of the addresses are live in it, and their indexes in it."""
        missing = np.arange(len(addresses))
        for run in reversed(self._runs):
            if len(missing) == 0:
                return
            found, at = run.locate(addresses[missing])
            yield run, missing[found], at
            missing = missing[~found]

    def _settle(self) -> None:
        for index in range(len(self._runs) - 1, 0, -1):
            if len(self._runs[index - 1]) <= _MERGE_RATIO * len(self._runs[index]):
                self._merge(index)

    def _merge(self, index: int) -> None:
        """Merges a run with the one before it."""
        new = self._runs.pop(index)
        old = self._runs.pop(index - 1)
        self._runs.insert(index - 1, _merged(old, new))


def _merged(old: _Run, new: _Run) -> _Run:
    old.compact()
    new.compact()
    at = old.columns.addresses.searchsorted(new.columns.addresses)
    at += np.arange(len(at))
    from_old = np.ones(len(old) + len(new), bool)
    from_old[at] = False
    older, newer = list(old.columns), list(new.columns)
    old.columns = new.columns = Blocks(*np.empty((4, 0), np.uint64))
    columns = []
    while older:  # frees each column as soon as it is merged
        column = np.empty(len(from_old), np.uint64)
        column[from_old] = older.pop(0)
        column[at] = newer.pop(0)
        columns.append(column)
    return _Run(Blocks(*columns))
