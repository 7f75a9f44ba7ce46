# SPDX-License-Identifier: Apache-2.0
"""Counts and times the system calls of each process, by ABI and number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kwatch.aggregate.call_cells import CallCells, Cell, heads_of, types_in
from kwatch.aggregate.histogram import BUCKETS, RANGE, RANGE_LOG2, RANGES, bucket_of, percentiles
from kwatch.aggregate.order import U64, Index
from kwatch.model.snapshot import SyscallStats, SyscallSummary
from kwatch.wire.events import Batch, EventType

#: Events to add at a time. With fewer, the fixed cost of numpy functions dominates; with more,
#: columns do not fit into the caches of the processor.
CHUNK = 1 << 15

_COUNTERS = ("errors", "total_ns", "max_ns", "unfinished")

#: A result in [-4095, -1] is an error, as in the kernel.
FIRST_ERROR = np.uint64(2**64 - 4095)

_ONE = np.uint64(1)  # np.add.at is 50 times slower if the types differ


class SyscallAccount:
    """All processes of a session. The user gives each a slot, a small dense integer.

    Counters are indexed by cell: process, system call, and range of durations. A cell has a part of
    the histogram of the call, so rare calls take little memory, and an event needs one look-up.
    """

    def __init__(self) -> None:
        self._cells = CallCells()
        self._counters = {name: np.zeros(0, np.uint64) for name in _COUNTERS}
        self._histogram = np.zeros(0, np.int64)  # RANGE buckets for each cell

    @property
    def nbytes(self) -> int:
        """The memory of this object."""
        counters = sum(column.nbytes for column in self._counters.values())
        return counters + self._cells.nbytes + self._histogram.nbytes

    def add(self, batch: Batch, slots: Index) -> None:
        """Adds events of dtype `kwatch.wire.events.SYSCALL`, with the slot of each process.

        Large batches are added fastest in parts of CHUNK.
        """
        durations = np.ascontiguousarray(batch["duration_ns"])
        buckets = bucket_of(durations)
        heads = heads_of(batch)
        cells = self._cells.cells_of(slots, heads, buckets >> RANGE_LOG2)
        self._make_room()
        finished = (
            types_in(heads) == EventType.SYSCALL.value
        )  # an IntEnum makes numpy widen the types
        if not finished.all():
            self._count("unfinished", cells[~finished])
            cells, durations, buckets = cells[finished], durations[finished], buckets[finished]
            batch = batch[finished]
        failed = batch["result"].view(np.uint64) >= FIRST_ERROR
        self._count("errors", cells[np.flatnonzero(failed)])
        self._count("total_ns", cells, durations)
        self._raise_max(cells, durations)
        cells <<= RANGE_LOG2
        cells += buckets & (RANGE - 1)
        np.add.at(self._histogram, cells, 1)

    def add_sums(self, sums: Batch, slots: Index) -> None:
        """Adds sums of dtype `kwatch.aggregate.call_sums.CALL_SUM`, with their processes' slots."""
        cells = self._cells.cells_of_calls(slots, sums["call"], sums["range"])
        self._make_room()
        self._count("errors", cells, sums["errors"])
        self._count("total_ns", cells, sums["total_ns"])
        np.maximum.at(self._counters["max_ns"], cells, sums["max_ns"])
        histogram = self._histogram.reshape(-1, RANGE)
        np.add.at(histogram, cells, sums["buckets"].astype(np.int64))

    def summary(self, slot: int, name_of: Callable[[int, int], str]) -> SyscallSummary:
        """The system calls of a process; those with the same `name_of(abi, nr)` count together."""
        cells = list(self._cells.of_slot(slot))
        of_call = {(cell.abi, cell.nr): name_of(cell.abi, cell.nr) for cell in cells}
        rows = {name: row for row, name in enumerate(dict.fromkeys(of_call.values()))}
        stats = self._stats(list(rows), cells, [rows[of_call[cell.abi, cell.nr]] for cell in cells])
        stats.sort(key=lambda s: (-s.total_ns, -s.calls, s.name))
        return SyscallSummary(
            calls=sum(s.calls for s in stats),
            errors=sum(s.errors for s in stats),
            by_name=tuple(stats),
        )

    def calls(self, slot: int) -> int:
        """How many system calls of a process have returned."""
        numbers = self._cells.numbers(slot)
        return int(self._histogram.reshape(-1, RANGE)[numbers].sum())

    def merge(self, slot: int, into: int) -> None:
        """Adds the calls of one slot to those of another one."""
        cells, sums = self._cells.move(slot, into)
        self._make_room()
        for name, column in self._counters.items():
            both = np.maximum if name == "max_ns" else np.add
            column[sums] = both(column[sums], column[cells])
        histogram = self._histogram.reshape(-1, RANGE)
        histogram[sums] += histogram[cells]

    def drop(self, slot: int) -> None:
        """Removes a process, so that its slot can be reused."""
        cells = self._cells.drop(slot)
        for column in self._counters.values():
            column[cells] = 0
        self._histogram.reshape(-1, RANGE)[cells] = 0

    def _count(self, name: str, cells: Index, amounts: U64 | np.uint64 = _ONE) -> None:
        np.add.at(self._counters[name], cells, amounts)

    def _raise_max(self, cells: Index, durations: U64) -> None:
        longest = self._counters["max_ns"]
        longer = np.flatnonzero(durations > longest.take(cells))
        np.maximum.at(longest, cells[longer], durations[longer])

    def _make_room(self) -> None:
        held = len(self._counters["errors"])
        if self._cells.capacity <= held:
            return
        more = max(self._cells.capacity, held * 3 // 2) - held
        for name, column in self._counters.items():
            self._counters[name] = np.concatenate([column, np.zeros(more, np.uint64)])
        self._histogram = np.concatenate([self._histogram, np.zeros(more * RANGE, np.int64)])

    def _stats(self, names: list[str], cells: list[Cell], rows: list[int]) -> list[SyscallStats]:
        """Those of all names at once; `rows`: the index of each cell's name."""
        numbers = [cell.number for cell in cells]
        histogram = np.zeros((len(names), RANGES, RANGE), np.int64)
        ranges = [cell.range for cell in cells]
        np.add.at(histogram, (rows, ranges), self._histogram.reshape(-1, RANGE)[numbers])
        counts = histogram.reshape(len(names), BUCKETS)
        sums = {key: np.zeros(len(names), np.uint64) for key in _COUNTERS}
        for key, column in self._counters.items():
            (np.maximum if key == "max_ns" else np.add).at(sums[key], rows, column[numbers])
        longest = sums["max_ns"].astype(np.int64)
        columns = (
            counts.sum(axis=1),
            sums["errors"],
            sums["total_ns"],
            np.minimum(percentiles(counts, 50), longest),
            np.minimum(percentiles(counts, 99), longest),
            longest,
            sums["unfinished"],
        )
        values = zip(*(column.tolist() for column in columns), strict=True)
        return [SyscallStats(name, *each) for name, each in zip(names, values, strict=True)]
