# SPDX-License-Identifier: Apache-2.0
"""Finds the allocators among the files that a process has mapped, and where to probe them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kwatch.probes.sites import reaches, site_offset
from kwatch.probes.table import (
    ALLOCATOR_FUNCTIONS,
    ESSENTIAL,
    UNWINDERS,
    AllocatorFunction,
    Shape,
)
from kwatch.symbols.elf import Elf, ElfError, Function

#: Device and inode.
FileKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """A place in a file. `cookie` tells the BPF program the function and its shape."""

    name: str
    function: AllocatorFunction
    offset: int
    cookie: int


@dataclass(frozen=True, slots=True)
class Allocator:
    """What is to be probed in a file, and which functions of the table it lacks.

    `unwinders`: the places where exceptions begin to unwind, if it has any.
    """

    path: str
    probes: tuple[Probe, ...]
    absent: tuple[str, ...] = ()
    unwinders: tuple[int, ...] = ()

    @property
    def throws(self) -> bool:
        """Whether an exception may leave a probed function."""
        return any(probe.function.shape is Shape.NEW for probe in self.probes)

    @property
    def names(self) -> list[str]:
        return [probe.name for probe in self.probes]


@dataclass(slots=True)
class AllocatorFinder:
    """Reads each file once. `prefixes`: allocators whose functions are named PREFIX + malloc."""

    prefixes: tuple[str, ...] = ()
    _known: dict[FileKey, Allocator | None] = field(default_factory=dict)

    def find(self, key: FileKey, path: str, shown: str) -> Allocator | None:
        """What to probe in a file, or None. `path` opens it, `shown` is its name for people."""
        if key not in self._known:
            try:
                self._known[key] = self._examine(path, shown)
            except (ElfError, OSError):
                return None  # gone or not a program: nothing that could be probed
        return self._known[key]

    def _examine(self, path: str, shown: str) -> Allocator | None:
        with Elf.open(path) as elf:
            found: dict[int, Probe] = {}
            unwinders = tuple(f.offset for f in elf.functions(UNWINDERS).values())
            absent: list[str] = []
            for prefix in ("", *self.prefixes):
                functions = elf.functions(_names(prefix))
                if not all(prefix + name in functions for name in ESSENTIAL):
                    continue
                absent += [name for name in _names(prefix) if name not in functions]
                _add_probes(elf, prefix, functions, found)
        if not found and not unwinders:
            return None
        return Allocator(shown, tuple(found.values()), tuple(absent), unwinders)


def _names(prefix: str) -> Iterable[str]:
    return [prefix + f.name for f in ALLOCATOR_FUNCTIONS if f.prefixable or not prefix]


def _add_probes(
    elf: Elf, prefix: str, functions: dict[str, Function], found: dict[int, Probe]
) -> None:
    """Adds a probe for each function that is not another one's alias.

    A C++ operator that goes on to a function that is probed, or to such an operator, is left out:
    its memory is seen there.
    """
    covered: list[int] = []
    for index, row in enumerate(ALLOCATOR_FUNCTIONS):
        function = functions.get(prefix + row.name)
        if function is None:
            continue
        if row.operator and reaches(elf, function, covered):
            covered.append(function.vaddr)
            continue
        covered.append(function.vaddr)
        place = function.offset + site_offset(elf, function, row.shape.argument_registers)
        cookie = index | row.shape << 8
        found.setdefault(place, Probe(function.name, row, place, cookie))
