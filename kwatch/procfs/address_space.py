# SPDX-License-Identifier: Apache-2.0
"""The executable mappings of a process, and the return addresses in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kwatch.model.frame import Frame
from kwatch.procfs.mappings import Mapping
from kwatch.system.intervals import Intervals

_MAX_RETURN_ADDRESSES = 65536  # kept for each address space


@dataclass(frozen=True, eq=False)
class ReturnAddress:
    """A return address. `looked_up` is in the call instruction before it, or the address itself.

    An address space has one object for each address: see `AddressSpace.return_address`.
    """

    address: int
    looked_up: int
    mapping: Mapping

    @property
    def offset(self) -> int:
        """The offset of `looked_up` in the file."""
        return self.looked_up - self.mapping.start + self.mapping.offset

    @property
    def step(self) -> int:
        """Bytes from `looked_up` to the address."""
        return self.address - self.looked_up

    @cached_property
    def is_generated(self) -> bool:
        """Whether its code is generated at run time, and may soon be replaced by other code."""
        return self.mapping.is_generated

    @cached_property
    def place(self) -> tuple[int, str]:
        """Equal for the same code. The path of generated code is left out, as it may change."""
        return self.address, "" if self.is_generated else self.mapping.path

    @cached_property
    def unnamed(self) -> Frame:
        """Its frame if its file cannot be read."""
        path = self.mapping.path
        return self.frame(self.offset, path) if path else Frame(self.address)

    def frame(
        self, offset: int, module: str, symbol: str = "", file: str = "", line: int = 0
    ) -> Frame:
        """The frame of this address; `offset` is that of `looked_up` in the symbol or module."""
        return Frame(self.address, symbol, offset + self.step, module, file, line)

    def interrupted(self) -> ReturnAddress:
        """The same address, looked up itself: a signal interrupted its function there."""
        inside = self.mapping.start <= self.address < self.mapping.end
        return replace(self, looked_up=self.address) if inside else self


class AddressSpace(Intervals[Mapping]):
    """The executable mappings of one process.

    `return_address` remembers what it has found until a mapping changes.
    """

    def __init__(self, mappings: Iterable[Mapping] = ()) -> None:
        super().__init__()
        self._return_addresses: dict[int, ReturnAddress] = {}
        for mapping in mappings:
            self.add(mapping)

    def add(self, mapping: Mapping) -> bool:
        """Maps over what was there, as mmap() does. Only executable mappings are kept.

        Returns whether other code was there than that of the mapping.
        """
        covers = self.has_other_code(mapping)
        self.replace(mapping.start, mapping.end, [mapping] if mapping.executable else [])
        return covers

    def has_other_code(self, mapping: Mapping) -> bool:
        """Whether other code than that of the mapping is where it will be mapped."""
        identity = _identity(mapping)
        touched = self.overlapping(mapping.start, mapping.end)
        return any(_identity(other) != identity for other in touched)

    def remove(self, start: int, end: int) -> None:
        """Unmaps a range, as munmap() does."""
        self.replace(start, end)

    def return_address(self, address: int) -> ReturnAddress | None:
        """A return address, if it is in code.

        It is looked up one byte lower: after a call instruction another line or function may begin.
        """
        found = self._return_addresses.get(address)
        if found is None and (mapping := self.find(address - 1)) is not None:
            if len(self._return_addresses) >= _MAX_RETURN_ADDRESSES:
                self._return_addresses.clear()
            found = self._return_addresses[address] = ReturnAddress(address, address - 1, mapping)
        return found

    def replace(self, start: int, end: int, new: Sequence[Mapping] = ()) -> list[Mapping]:
        self._return_addresses.clear()
        return super().replace(start, end, new)

    def copy(self) -> AddressSpace:
        other = AddressSpace()
        other._assign(self)
        return other

    def clear(self) -> None:
        super().clear()
        self._return_addresses.clear()


def _identity(mapping: Mapping) -> tuple[int, int, str, int]:
    """Equal for mappings of the same file that put the same bytes at the same addresses."""
    return mapping.device, mapping.inode, mapping.path, mapping.start - mapping.offset
