# SPDX-License-Identifier: Apache-2.0
"""Finds a variable or a function in the files of a process, and decides which of them is meant."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from os.path import basename

from kwatch.elf.elf import Elf, ElfError
from kwatch.errors import KwatchError, UsageError
from kwatch.kernel.breakpoints import Access
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.mapped_files import MappedFiles
from kwatch.watchpoints.site import Part, Site

_MAX_NAMES = 100_000  # of a symbol table that are compared with a name that is in none
_NEAR = 3
#: Only demangled names of C++ functions have these, and no symbol table has such names.
_DEMANGLED = ("::", "(")


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


def is_allocating(site: Site, access: Access, pid: int, files: Iterable[str] = ()) -> bool:
    """Whether the blocks of a function or a line are meant.

    `pid`: the process; 0 if it is not launched yet, with the `files` that it will map. Raises
    KwatchError if a running process has no such name.
    """
    if site.line is not None:
        return True
    if access is Access.EXECUTE and site.part is not Part.LIVE:
        raise UsageError("--access x watches code, not blocks", f"drop --access, or {site.part}:")
    if site.address is not None or access is Access.EXECUTE:
        return False
    if pid:
        found = find_place(pid, site.name)
        if found is None and not _is_demangled(site.name):
            raise not_found(pid, site.name)
        if found is not None and not found.is_code and site.part is not Part.LIVE:
            raise UsageError(f"{site.text!r}: {site.name} is a variable", f"drop `{site.part}:`")
        return found is None or found.is_code
    if site.part is not Part.LIVE:
        return True
    return _is_function_of(files, site.name) or _is_demangled(site.name)


def _is_demangled(name: str) -> bool:
    return any(each in name for each in _DEMANGLED)


def _is_function_of(files: Iterable[str], name: str) -> bool:
    """The first file that has the name decides."""
    for path in filter(os.path.exists, files):
        try:
            with Elf.open(path) as elf:
                if elf.variable(name) is not None:
                    return False
                if name in elf.functions([name]):
                    return True
        except ElfError:
            continue
    return False


def not_found(pid: int, name: str) -> KwatchError:
    """The error for a name that no file of the process has."""
    near = _near_names(pid, name)
    hint = (
        f"do you mean {' or '.join(near)}?" if near else "is the program stripped? give 0xADDRESS"
    )
    return KwatchError(f"no variable or function of process {pid} is named {name}", hint)


def _near_names(pid: int, name: str) -> list[str]:
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
