# SPDX-License-Identifier: Apache-2.0
"""Finds the allocators among the mapped files of a process, and where to probe them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kwatch.elf.elf import Elf, ElfError, Function
from kwatch.probes.sites import exit_offsets, forwards_to, site_offset
from kwatch.procfs.mappings import file_version
from kwatch.system.lru import Lru
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS, ESSENTIAL, AllocatorFunction
from kwatch.wire.maps import COOKIE_SIGNATURE_SHIFT

_FILES = 4096  # remembered; programs that are built and run once would add up

#: Device and inode.
FileKey = tuple[int, int]
#: ... and what changes when the file is written: size, mtime, ctime.
_Version = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """A function in a file: where to probe it, as file offsets.

    `cookie` passes the function and its signature to the BPF program. `exits` are the ret
    instructions of a function that must not get a return probe.
    """

    name: str
    function: AllocatorFunction
    offset: int
    cookie: int
    exits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocator:
    """A file with an allocator: its probes, and functions that cannot be probed, with reasons."""

    path: str
    probes: tuple[Probe, ...]
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        return [probe.name for probe in self.probes]


@dataclass(slots=True)
class AllocatorFinder:
    """Reads each version of a file once, and keeps the most recent results.

    `prefixes`: also allocators whose functions are named PREFIX + malloc, PREFIX + free, ...;
    `matched` are those of them that some file has had.
    """

    prefixes: tuple[str, ...] = ()
    matched: set[str] = field(default_factory=set)
    _known: Lru[_Version, tuple[Allocator | None]] = field(default_factory=lambda: Lru(_FILES))

    def find(self, key: FileKey, path: str, shown: str) -> Allocator | None:
        """What to probe in a file, or None. `path` opens it, `shown` is its name in messages."""
        try:
            version = (*key, *file_version(path))
            known = self._known.get(version)
            if known is None:
                known = (self._examine(path, shown),)
                self._known.put(version, known)
        except (ElfError, OSError):
            return None  # it is gone or not a program
        return known[0]

    def _examine(self, path: str, shown: str) -> Allocator | None:
        found: dict[int, Probe] = {}
        refused: dict[str, str] = {}
        with Elf.open(path) as elf:
            for prefix in ("", *self.prefixes):
                functions = elf.functions(_names(prefix))
                if all(prefix + name in functions for name in ESSENTIAL):
                    self.matched.add(prefix)
                    _add_probes(elf, prefix, functions, found, refused)
        probes = tuple(found.values())
        return Allocator(shown, probes, tuple(refused.items())) if probes else None


def _names(prefix: str) -> Iterable[str]:
    return [prefix + f.name for f in ALLOCATOR_FUNCTIONS if f.prefixable or not prefix]


def _add_probes(
    elf: Elf,
    prefix: str,
    functions: dict[str, Function],
    found: dict[int, Probe],
    refused: dict[str, str],
) -> None:
    """Adds a probe for each function that is not an alias of another or a mere jump to it."""
    covered: list[int] = []
    for index, row in enumerate(ALLOCATOR_FUNCTIONS):
        function = functions.get(prefix + row.name)
        if function is None or function.vaddr in covered:
            continue
        is_forwarder = row.operator and forwards_to(elf, function, covered)
        covered.append(function.vaddr)
        if is_forwarder:
            continue
        exits = exit_offsets(elf, function) if row.throws else ()
        if exits is None:
            refused[function.name] = "not all of its exits could be found"
            continue
        place = function.offset + site_offset(elf, function, row.signature.argument_registers)
        found[place] = Probe(
            function.name, row, place, index | row.signature << COOKIE_SIGNATURE_SHIFT, exits
        )
