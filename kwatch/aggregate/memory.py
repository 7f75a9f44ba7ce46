# SPDX-License-Identifier: Apache-2.0
"""The memory that one process has got from the kernel with mmap, munmap and brk."""

from __future__ import annotations

from kwatch.model.snapshot import MemoryStats
from kwatch.system.intervals import Intervals, Range
from kwatch.wire.events import Batch, EventType, Types


class MemoryAccount:
    """Takes the events of one process in order of time.

    Each mmap makes a mapping, and a munmap of its middle splits it. Neighbors are never joined.
    Sizes are rounded up to pages, as the kernel does.
    """

    def __init__(self, page_size: int = 4096) -> None:
        self._page_size = page_size
        self._mappings = Intervals[Range]()
        self._mapped = 0
        self._first_break: int | None = None
        self._break = 0
        self.mmap_calls = 0
        self.munmap_calls = 0

    def start(self, address: int) -> None:
        """Sets the program break before the first event."""
        self._first_break = self._break = address

    def add(self, batch: Batch, types: Types) -> None:
        """Adds events of dtype `kwatch.wire.events.HEAP`; `types` are their `types_of`.

        Ignores types other than MAP, UNMAP and BRK.
        """
        if types.max(initial=0) < EventType.MAP:
            return
        events = batch[types >= EventType.MAP]
        for kind, address, size in events[["type", "address", "size"]].tolist():
            if kind == EventType.BRK:
                self._move_break(address)
            elif kind == EventType.MAP:
                self.mmap_calls += 1
                self._map(address, self._end(address, size))
            else:
                self.munmap_calls += 1
                self._unmap(address, self._end(address, size))

    def snapshot(self) -> MemoryStats:
        """The state now, without mappings from before the first event."""
        return MemoryStats(
            mapped_bytes=self._mapped,
            mappings=len(self._mappings),
            mmap_calls=self.mmap_calls,
            munmap_calls=self.munmap_calls,
            brk_bytes=0 if self._first_break is None else self._break - self._first_break,
        )

    def fork(self) -> MemoryAccount:
        """The account of a new child: it has the mappings and the break, and its counts are 0."""
        child = MemoryAccount(self._page_size)
        child._mappings = self._mappings.copy()
        child._mapped = self._mapped
        child._first_break = self._first_break
        child._break = self._break
        return child

    def exec(self) -> None:
        """Starts again at zero: a new program has a new address space."""
        vars(self).update(vars(MemoryAccount(self._page_size)))

    def _end(self, address: int, size: int) -> int:
        return address + -(-size // self._page_size) * self._page_size

    def _move_break(self, address: int) -> None:
        """The first break seen is that at the attach: brk(0), a query, reports it too."""
        if self._first_break is None:
            self._first_break = address
        self._break = address

    def _map(self, start: int, end: int) -> None:
        """Replaces what was mapped there: MAP_FIXED, or a munmap that was not seen."""
        if start < end:
            self._unmap(start, end, (Range(start, end),))
            self._mapped += end - start

    def _unmap(self, start: int, end: int, new: tuple[Range, ...] = ()) -> None:
        for old_start, old_end in self._mappings.replace(start, end, new):
            self._mapped -= min(old_end, end) - max(old_start, start)
