# SPDX-License-Identifier: Apache-2.0
"""Names the allocators of a process whose heap could not be listed as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kwatch.elf.elf import ElfError
from kwatch.model.reach import HeapReach
from kwatch.probes.allocator_names import GLIBC, GO, NamedAllocator, allocator_of
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.mapped_files import MappedFiles


def unlisted_blocks(pid: int, reach: HeapReach) -> str:
    """Which blocks are not listed, because their allocator is not glibc's; empty if none are.

    Raises KwatchError.
    """
    allocators = find_allocators(pid)
    return (unlisted if reach.is_walked else why_not_walked)(allocators, pid)


def find_allocators(pid: int) -> list[NamedAllocator]:
    """Those in the files whose code the process has mapped. Raises KwatchError."""
    found = []
    files = MappedFiles()
    for mapping in _code_files(read_mappings(pid)):
        try:
            elf = files.open(pid, mapping)
        except ElfError:
            continue  # a damaged file, or one of another kind, has no allocator
        if elf is not None:
            with elf:
                found.append(allocator_of(elf, mapping.path))
    return [one for one in found if one is not None]


def _code_files(mappings: Sequence[Mapping]) -> Iterator[Mapping]:
    """One mapping of each file with code."""
    seen = set()
    for mapping in mappings:
        key = mapping.device, mapping.inode
        if mapping.executable and mapping.inode and key not in seen:
            seen.add(key)
            yield mapping


def why_not_walked(allocators: Sequence[NamedAllocator], pid: int) -> str:
    """Why no block could be listed, and what to do."""
    others = _others(allocators)
    if [one.name for one in others] == [GO]:
        return "it is a Go program: Go has its own heap, which a profile of runtime/pprof shows"
    if others:
        return f"its allocator is {_shown(others)}, whose blocks kwatch cannot list{_cure(pid)}"
    if allocators:
        return f"it has allocated nothing with {_shown(allocators)}, or kwatch cannot read its heap"
    return f"kwatch finds no allocator in its files, so it cannot list any blocks{_cure(pid)}"


def unlisted(allocators: Sequence[NamedAllocator], pid: int) -> str:
    """Whose blocks are missing although a heap of glibc was listed; empty if none are.

    Go's heap counts as memory that can hold pointers, and nothing in it can be lost.
    """
    others = [one for one in _others(allocators) if one.is_in_use and one.name != GO]
    if others:
        return f"it also has {_shown(others)}, whose blocks kwatch cannot list{_cure(pid)}"
    return ""


def _others(allocators: Sequence[NamedAllocator]) -> list[NamedAllocator]:
    return [one for one in allocators if one.name != GLIBC]


def _shown(allocators: Sequence[NamedAllocator]) -> str:
    return " and ".join(dict.fromkeys(one.shown for one in allocators))


def _cure(pid: int) -> str:
    return f"; to see those from now on, trace it: kwatch --pid {pid}"
