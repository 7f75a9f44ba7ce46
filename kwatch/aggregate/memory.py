# SPDX-License-Identifier: Apache-2.0
"""The memory that one process has got from the kernel with mmap, munmap and brk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.outstanding import Limits, outstanding
from kwatch.model.snapshot import MemoryStats, StackStats
from kwatch.system.intervals import Intervals
from kwatch.wire.batches import chosen
from kwatch.wire.events import Batch, EventType, MappingFlag, Types

_NOT_OWN = MappingFlag.BY_ALLOCATOR | MappingFlag.OF_FILE


class Mapped(NamedTuple):
    """A mapping or what remains of it. `flags`: MappingFlag; `time_ns`: when it was made."""

    start: int
    end: int
    flags: int = 0
    stack: int = 0
    time_ns: int = 0

    def part(self, start: int, end: int) -> Mapped:
        return self._replace(start=start, end=end)

    @property
    def is_own(self) -> bool:
        """Whether the program itself mapped this memory, without an allocator or a file."""
        return not self.flags & _NOT_OWN


class MemoryAccount:
    """Takes the events of one process in order of time.

    Each mmap makes a mapping, and a munmap of its middle splits it. Neighbors are never joined.
    Sizes are rounded up to pages, as the kernel does. What mremap moves stays what it was, but its
    age starts again.
    """

    def __init__(self, page_size: int = 4096) -> None:
        self._page_size = page_size
        self._mappings = Intervals[Mapped]()
        self._moving: dict[int, int] = {}  # by thread: the flags of what its mremap moves
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
        events = chosen(batch, types >= EventType.MAP)
        columns = ["type", "function", "tid", "address", "size", "stack", "time_ns"]
        for kind, flags, tid, address, size, stack, time_ns in events[columns].tolist():
            if kind == EventType.BRK:
                self._move_break(address)
            elif kind == EventType.MAP:
                self.mmap_calls += 1
                if flags & MappingFlag.MOVED:
                    flags |= self._moving.pop(tid, 0)
                self._map(Mapped(address, self._end(address, size), flags, stack, time_ns))
            else:
                self.munmap_calls += 1
                unmapped = self._unmap(address, self._end(address, size))
                if flags & MappingFlag.MOVED:
                    self._moving[tid] = unmapped[0].flags if unmapped else 0

    def snapshot(self) -> MemoryStats:
        """The state now, without mappings from before the first event."""
        own = [mapping.end - mapping.start for mapping in self._own()]
        return MemoryStats(
            mapped_bytes=self._mapped,
            mappings=len(self._mappings),
            mmap_calls=self.mmap_calls,
            munmap_calls=self.munmap_calls,
            brk_bytes=0 if self._first_break is None else self._break - self._first_break,
            own_bytes=sum(own),
            own_mappings=len(own),
        )

    def stacks(self, now_ns: int, limits: Limits) -> tuple[StackStats, ...]:
        """The mappings that the program itself made, by stack and most bytes first.

        Without frames. `now_ns` is on the clock of the events.
        """
        own = [(m.start, m.end - m.start, m.stack, m.time_ns) for m in self._own()]
        columns = np.array(own, np.uint64).reshape(-1, 4).T
        return outstanding(Blocks(*map(np.ascontiguousarray, columns)), now_ns, limits)

    def is_in_own(self, address: int, since_ns: int) -> bool:
        """Whether an address is in memory that the program itself has mapped since a moment."""
        return any(
            mapping.start <= address < mapping.end and mapping.time_ns >= since_ns
            for mapping in self._own()
        )

    def stack_ids(self) -> set[int]:
        """The stacks of the mappings that the program itself made."""
        return {mapping.stack for mapping in self._own()}

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

    def _own(self) -> Iterable[Mapped]:
        return (mapping for mapping in self._mappings if mapping.is_own)

    def _end(self, address: int, size: int) -> int:
        return address + -(-size // self._page_size) * self._page_size

    def _move_break(self, address: int) -> None:
        """The first break seen is that at the attach: brk(0), a query, reports it too."""
        if self._first_break is None:
            self._first_break = address
        self._break = address

    def _map(self, new: Mapped) -> None:
        """Replaces what was mapped there: MAP_FIXED, or a munmap that was not seen."""
        if new.start < new.end:
            self._unmap(new.start, new.end, (new,))
            self._mapped += new.end - new.start

    def _unmap(self, start: int, end: int, new: tuple[Mapped, ...] = ()) -> list[Mapped]:
        """Returns the mappings that were there."""
        old = self._mappings.replace(start, end, new)
        for mapping in old:
            self._mapped -= min(mapping.end, end) - max(mapping.start, start)
        return old
