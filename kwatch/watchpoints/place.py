# SPDX-License-Identifier: Apache-2.0
"""Finds a variable or a function in the files that a process has mapped."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from os.path import basename

from kwatch.elf.elf import Elf, ElfError
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.mapped_files import MappedFiles

_MAX_NAMES = 100_000  # of a symbol table that are compared with a name that is in none
_NEAR = 3


@dataclass(frozen=True, slots=True)
class Place:
    """`size`: of the variable or the function."""

    name: str
    address: int
    size: int
    is_code: bool
    file: str


def find_place(pid: int, name: str) -> Place | None:
    """A variable or else a function of this name, the program's own first. Raises KwatchError."""
    code: Place | None = None
    for mapping in _files(pid):
        found = None
        with _opened(pid, mapping) as elf:
            found = _place_in(elf, mapping, name) if elf is not None else None
        if found is not None and not found.is_code:
            return found
        code = code or found
    return code


def _place_in(elf: Elf, mapping: Mapping, name: str) -> Place | None:
    start = elf.vaddr_of(mapping.offset)
    if start is None:
        return None
    bias, file = mapping.start - start, basename(mapping.path)
    if (variable := elf.variable(name)) is not None:
        return Place(name, bias + variable[0], variable[1], False, file)
    if (function := elf.functions([name]).get(name)) is not None:
        return Place(name, bias + function.vaddr, function.size, True, file)
    return None


def near_names(pid: int, name: str) -> list[str]:
    """Names of variables and functions that look like this one."""
    names: set[str] = set()
    for mapping in _files(pid):
        with _opened(pid, mapping) as elf:
            if elf is not None:
                names.update(elf.names(_MAX_NAMES))
    alike = [each for each in names if abs(len(each) - len(name)) <= len(name) // 2 + 1]
    return difflib.get_close_matches(name, alike, _NEAR)


def _files(pid: int) -> Iterator[Mapping]:
    """The first mapping of each file."""
    seen = set()
    for mapping in read_mappings(pid):
        key = mapping.device, mapping.inode
        if mapping.inode and not mapping.offset and key not in seen:
            seen.add(key)
            yield mapping


@contextmanager
def _opened(pid: int, mapping: Mapping) -> Iterator[Elf | None]:
    """None if it is not an ELF file, or damaged."""
    elf = None
    with suppress(ElfError):
        elf = MappedFiles().open(pid, mapping)
    if elf is None:
        yield None
        return
    with closing(elf), suppress(ElfError):
        yield elf
