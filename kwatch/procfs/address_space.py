# SPDX-License-Identifier: Apache-2.0
"""The code of a process by address."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from kwatch.model.frame import Frame
from kwatch.procfs.mappings import Mapping

_MAX_CALLS = 65536  # remembered in an address space


@dataclass(frozen=True, eq=False)
class ReturnAddress:
    """A return address; `looked_up` is in the call before it, or the address itself.

    Of one address in one address space there is one object: see `AddressSpace.call`.
    """

    address: int
    looked_up: int
    mapping: Mapping

    @property
    def offset(self) -> int:
        """Of what is looked up, in the file."""
        return self.looked_up - self.mapping.start + self.mapping.offset

    @property
    def step(self) -> int:
        return self.address - self.looked_up

    @cached_property
    def is_made(self) -> bool:
        """Whether its code is the program's own making, and may be other code a moment later."""
        return self.mapping.is_made

    @cached_property
    def place(self) -> tuple[int, str]:
        """Equal for calls to the same code; what anonymous memory is called changes."""
        return self.address, "" if self.is_made else self.mapping.path

    @cached_property
    def unnamed(self) -> Frame:
        """What it is without a name."""
        offset = self.offset + self.step if self.mapping.path else 0
        return Frame(self.address, "", offset, self.mapping.path)

    def interrupted(self) -> ReturnAddress:
        """The same, if it was no call but where a signal came."""
        inside = self.mapping.start <= self.address < self.mapping.end
        return replace(self, looked_up=self.address) if inside else self


class AddressSpace:
    """The executable mappings of one process, none overlapping another.

    `call` remembers what it has found until anything changes.
    """

    def __init__(self, mappings: list[Mapping] | None = None) -> None:
        self._calls: dict[int, ReturnAddress] = {}
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        for mapping in mappings or []:
            self.add(mapping)

    def __len__(self) -> int:
        return len(self._mappings)

    def __iter__(self) -> Iterator[Mapping]:
        """By address."""
        return iter(self._mappings)

    def add(self, mapping: Mapping) -> bool:
        """Maps over what was there, as mmap() does; only executable mappings are kept.

        Whether other code than the mapping's own lay there.
        """
        covers = self.has_other_code(mapping)
        self._replace(mapping.start, mapping.end, [mapping] if mapping.executable else [])
        return covers

    def has_other_code(self, mapping: Mapping) -> bool:
        """Whether code lies where the mapping goes that is not the mapping's own."""
        identity = _identity(mapping)
        first = max(bisect_right(self._starts, mapping.start) - 1, 0)
        touched = self._mappings[first : bisect_left(self._starts, mapping.end)]
        return any(m.end > mapping.start and _identity(m) != identity for m in touched)

    def remove(self, start: int, end: int) -> None:
        """Unmaps a range, as munmap() does."""
        self._replace(start, end, [])

    def find(self, address: int) -> Mapping | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._mappings[index].end:
            return self._mappings[index]
        return None

    def return_address(self, address: int) -> ReturnAddress | None:
        """The call that returns to an address, if that lies in code.

        It is looked up one byte before: the code after a call may be another line or function.
        """
        found = self._calls.get(address)
        if found is None and (mapping := self.find(address - 1)) is not None:
            if len(self._calls) >= _MAX_CALLS:
                self._calls.clear()
            found = self._calls[address] = ReturnAddress(address, address - 1, mapping)
        return found

    def copy(self) -> AddressSpace:
        other = AddressSpace()
        other._mappings = self._mappings.copy()
        other._starts = self._starts.copy()
        return other

    def clear(self) -> None:
        self._mappings.clear()
        self._starts.clear()
        self._calls.clear()

    def _replace(self, start: int, end: int, new: list[Mapping]) -> None:
        if start >= end:
            return
        self._calls.clear()
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = bisect_left(self._starts, end)
        touched = self._mappings[first:last]
        before = [part for old in touched for part in _part(old, old.start, min(old.end, start))]
        after = [part for old in touched for part in _part(old, max(old.start, end), old.end)]
        self._mappings[first:last] = kept = [*before, *new, *after]
        self._starts[first:last] = [mapping.start for mapping in kept]


def _identity(mapping: Mapping) -> tuple[int, int, str, int]:
    """Equal for mappings that put the same bytes at the same addresses."""
    return mapping.device, mapping.inode, mapping.path, mapping.start - mapping.offset


def _part(mapping: Mapping, start: int, end: int) -> list[Mapping]:
    if start >= end:
        return []
    offset = mapping.offset + start - mapping.start
    return [replace(mapping, start=start, end=end, offset=offset)]
