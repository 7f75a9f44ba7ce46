# SPDX-License-Identifier: Apache-2.0
"""Names the variable at an address of a process's data."""

from __future__ import annotations

from os.path import basename
from typing import NamedTuple

from kwatch.elf.elf import Elf
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.mapped_files import MappedFiles


class Place(NamedTuple):
    """An offset in a variable of a file."""

    variable: str
    offset: int
    file: str


class Variables:
    """The global and static variables of one process, as its mappings were at the start."""

    def __init__(self, pid: int) -> None:
        """Raises KwatchError."""
        self._pid = pid
        self._mappings = read_mappings(pid)
        self._files = MappedFiles()
        self._opened: dict[tuple[int, int], Elf | None] = {}

    def name(self, address: int) -> str:
        """`cache+0x10 (app)`; empty if no variable with a name is there."""
        place = self.place(address)
        if place is None:
            return ""
        offset = f"+{place.offset:#x}" if place.offset else ""
        return f"{place.variable}{offset} ({place.file})"

    def place(self, address: int) -> Place | None:
        """Data without initial values is anonymous memory behind the file that it belongs to."""
        first = self._first_mapping(address)
        elf = self._open(first) if first is not None else None
        if first is None or elf is None:
            return None
        start = elf.vaddr_of(first.offset)
        found = None if start is None else elf.variable_at(address - first.start + start)
        return None if found is None else Place(*found, basename(first.path))

    def close(self) -> None:
        for elf in self._opened.values():
            if elf is not None:
                elf.close()

    def _open(self, first: Mapping) -> Elf | None:
        key = first.device, first.inode
        if key not in self._opened:
            self._opened[key] = self._files.open(self._pid, first)
        return self._opened[key]

    def _first_mapping(self, address: int) -> Mapping | None:
        """The mapping of the beginning of the file that is mapped at the address or before it."""
        before = [mapping for mapping in self._mappings if mapping.start <= address]
        while before and not before[-1].inode:
            data = before.pop()
            if not before or before[-1].end != data.start:
                return None
        same = (m for m in reversed(before) if m.inode == before[-1].inode)
        return next((mapping for mapping in same if not mapping.offset), None)
