# SPDX-License-Identifier: Apache-2.0
"""System calls counted and timed for each process, by ABI and number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from kwatch.aggregate.call_rows import CallRows
from kwatch.aggregate.histogram import HistogramRows, bucket_of, percentile
from kwatch.aggregate.order import U64, Index
from kwatch.events import Batch, EventType
from kwatch.snapshot import SyscallStats, SyscallSummary

#: Events handled at a time: their columns fit into the processor's cache.
CHUNK = 1 << 15

_COUNTERS = ("calls", "errors", "total_ns", "max_ns", "unfinished")

#: A result in [-4095, -1], as the kernel has it, is an error.
FIRST_ERROR = np.uint64(2**64 - 4095)

_ONE = np.uint64(1)  # add.at is 50 times slower when the types differ


class SyscallAccount:
    """All processes of a session; the caller gives each a slot, a small dense int."""

    def __init__(self) -> None:
        self._rows = CallRows()
        self._counters = {name: np.zeros(0, np.uint64) for name in _COUNTERS}
        self._histograms = HistogramRows()

    @property
    def nbytes(self) -> int:
        """The memory that this object holds."""
        counters = sum(column.nbytes for column in self._counters.values())
        return counters + self._rows.nbytes + self._histograms.nbytes

    def add(self, batch: Batch, slots: Index) -> None:
        """Events of dtype `kwatch.events.SYSCALL`, and the slot of the process of each."""
        slots = np.asarray(slots, np.intp)
        for start in range(0, len(batch), CHUNK):
            end = start + CHUNK
            self._add_chunk(batch[start:end], slots[start:end])

    def summary(self, slot: int, name_of: Callable[[int, int], str]) -> SyscallSummary:
        """`name_of(abi, nr)`; calls that have one name are counted together."""
        rows_of: dict[str, list[int]] = defaultdict(list)
        for abi, nr, row in self._rows.of_slot(slot):
            rows_of[name_of(abi, nr)].append(row)
        stats = [self._stats(name, np.array(rows)) for name, rows in rows_of.items()]
        stats.sort(key=lambda s: (-s.total_ns, -s.calls, s.name))
        return SyscallSummary(
            calls=sum(s.calls for s in stats),
            errors=sum(s.errors for s in stats),
            by_name=tuple(stats),
        )

    def drop(self, slot: int) -> None:
        """Forget a process; its slot may be given to another one."""
        rows = self._rows.drop(slot)
        for column in self._counters.values():
            column[rows] = 0
        self._histograms.drop(rows)

    def _add_chunk(self, batch: Batch, slots: Index) -> None:
        rows = self._rows.rows_of(slots, batch["abi"], batch["nr"])
        self._make_room()
        durations = np.ascontiguousarray(batch["duration_ns"])
        results = np.ascontiguousarray(batch["result"])
        unfinished = batch["type"] == EventType.SYSCALL_UNFINISHED
        if unfinished.any():
            self._count("unfinished", rows[unfinished])
            finished = np.flatnonzero(~unfinished)
            rows, durations, results = rows[finished], durations[finished], results[finished]
        failed = np.flatnonzero(results.view(np.uint64) >= FIRST_ERROR)
        self._count("calls", rows)
        self._count("errors", rows[failed])
        self._count("total_ns", rows, durations)
        self._raise_max(rows, durations)
        self._histograms.add(rows, bucket_of(durations))

    def _count(self, name: str, rows: Index, amounts: U64 | np.uint64 = _ONE) -> None:
        np.add.at(self._counters[name], rows, amounts)

    def _raise_max(self, rows: Index, durations: U64) -> None:
        longest = self._counters["max_ns"]
        longer = np.flatnonzero(durations > longest.take(rows))
        np.maximum.at(longest, rows[longer], durations[longer])

    def _make_room(self) -> None:
        held = len(self._counters["calls"])
        if self._rows.capacity <= held:
            return
        capacity = max(self._rows.capacity, held * 3 // 2)
        for name, column in self._counters.items():
            self._counters[name] = np.concatenate([column, np.zeros(capacity - held, np.uint64)])
        self._histograms.resize(capacity)

    def _stats(self, name: str, rows: Index) -> SyscallStats:
        sums = {key: int(column[rows].sum()) for key, column in self._counters.items()}
        longest = int(self._counters["max_ns"][rows].max())
        histogram = np.sum([self._histograms.counts(row) for row in rows.tolist()], axis=0)
        return SyscallStats(
            name=name,
            calls=sums["calls"],
            errors=sums["errors"],
            total_ns=sums["total_ns"],
            p50_ns=min(percentile(histogram, 50), longest),
            p99_ns=min(percentile(histogram, 99), longest),
            max_ns=longest,
            unfinished=sums["unfinished"],
        )
