# SPDX-License-Identifier: Apache-2.0
"""Which allocator a file contains, as people call it."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import basename
from typing import NamedTuple

from kwatch.elf.elf import Elf
from kwatch.probes.families import FoundFamily, find_families

GLIBC = "glibc's malloc"
GO = "Go's own allocator"

#: An allocator, and functions of which its file defines one. Others define glibc's as aliases of
#: theirs, so glibc is the last. Its dynamic loader has had a malloc of its own.
_SIGNS = (
    ("AddressSanitizer", ("__asan_init",)),
    ("tcmalloc", ("tc_malloc", "TCMallocInternalMalloc")),
    ("mimalloc", ("mi_malloc",)),
    ("musl's malloc", ("__init_libc", "__dls2b", "__libc_malloc_impl")),
    (GLIBC, ("__libc_pvalloc", "_rtld_global")),
)
#: Its functions can have any prefix.
_JEMALLOC = ("mallocx", "sdallocx", "dallocx")
_MAX_BUILDINFO = 1 << 20


class NamedAllocator(NamedTuple):
    """`name`: what it is called; empty if it is unknown. `file`: the base name of its file.

    `is_in_use`: surely, as malloc or under a prefix that nobody gives it without need. The file may
    be an interpreter that has it on request only.
    """

    name: str
    file: str
    is_in_use: bool

    @property
    def shown(self) -> str:
        return f"{self.name} ({self.file})" if self.name else f"that of {self.file}"


def allocator_of(elf: Elf, path: str) -> NamedAllocator | None:
    """The allocator that a file contains; None if it has none that kwatch knows."""
    families = find_families(elf, ())
    name = _name(elf, families)
    if not name and not families:
        return None
    has_malloc = any(not family.label for family in families)
    return NamedAllocator(name, basename(path), has_malloc or name != "mimalloc")


def _name(elf: Elf, families: Sequence[FoundFamily]) -> str:
    if any(each.prefix + name in each.functions for each in families for name in _JEMALLOC):
        return "jemalloc"
    for name, signs in _SIGNS:
        if elf.may_define(signs) and elf.functions(signs):
            return name
    if families:
        return ""
    return GO if elf.section(b".go.buildinfo", _MAX_BUILDINFO) is not None else ""
