# SPDX-License-Identifier: Apache-2.0
"""Finds the allocators among the mapped files of a process, and where to probe them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kwatch.elf.elf import Elf, ElfError, Function
from kwatch.model.options import Returns
from kwatch.probes.exits import Exit, ExitFinder
from kwatch.probes.families import FoundFamily, find_families, needs_ret_sites
from kwatch.probes.sites import Site, find_second_site, find_site
from kwatch.procfs.mappings import file_version
from kwatch.system.lru import Lru
from kwatch.wire.allocators import FUNCTION_INDEX, AllocatorFunction
from kwatch.wire.maps import (
    COOKIE_MOVED_BITS,
    COOKIE_MOVED_SHIFT,
    COOKIE_PASSES_NOTHING,
    COOKIE_PUSHED_SHIFT,
    COOKIE_SIGNATURE_SHIFT,
    AllocSignature,
)

_FILES = 4096  # remembered; programs that are built and run once would add up
_MAX_FAMILIES_SHOWN = 3
_MAX_BUILDINFO = 1 << 20
#: What a file needs to reach another one's `free`.
_WAYS_TO_FREE = "free cfree __libc_free dlsym dlvsym".split()

#: Device and inode.
FileKey = tuple[int, int]
#: ... and what changes when the file is written: size, mtime, ctime. And how returns are caught.
_Version = tuple[int, int, int, int, int, Returns]


@dataclass(frozen=True, slots=True)
class Probe:
    """A function in a file: where to probe it, as file offsets.

    `cookie` passes the function, its signature and its arguments' places to the BPF program.
    `exits` are the ret instructions of a function that must not get a return probe. `is_standard`:
    its name has no prefix.
    """

    name: str
    function: AllocatorFunction
    offset: int
    cookie: int
    exits: tuple[Exit, ...] = ()

    @property
    def is_standard(self) -> bool:
        return self.name == self.function.name


@dataclass(frozen=True, slots=True)
class Allocator:
    """A file with an allocator: its probes, and functions that cannot be probed, with reasons.

    `families`: whose functions were found without being told their names, for messages.
    `is_mixed`: functions of two kinds are one, so their calls cannot be told apart.
    """

    path: str
    probes: tuple[Probe, ...]
    refused: tuple[tuple[str, str], ...] = ()
    families: tuple[str, ...] = ()
    is_mixed: bool = False

    @property
    def names(self) -> list[str]:
        return [probe.name for probe in self.probes]

    @property
    def shown(self) -> str:
        """For messages: the file, and the families of its functions."""
        if not self.families:
            return self.path
        more = len(self.families) - _MAX_FAMILIES_SHOWN
        listed = ", ".join(self.families[:_MAX_FAMILIES_SHOWN])
        return f"{self.path} ({listed}{f' and {more} more' if more > 0 else ''})"


@dataclass(slots=True)
class AllocatorFinder:
    """Reads each version of a file once, and keeps the most recent results.

    `prefixes`: also allocators whose functions are named PREFIX + malloc, PREFIX + free, ...;
    `matched` are those of them that some file has had. `may_move`: probes can read arguments
    from other registers than the usual ones. `operators`: probe each C++ operator, also where it
    only calls the allocator.
    """

    prefixes: tuple[str, ...] = ()
    may_move: bool = True
    operators: bool = False
    matched: set[str] = field(default_factory=set)
    _known: Lru[_Version, tuple[Allocator | None]] = field(default_factory=lambda: Lru(_FILES))
    _go: Lru[FileKey, bool] = field(default_factory=lambda: Lru(_FILES))

    def is_go(self, key: FileKey) -> bool:
        """Whether a file without an allocator that kwatch knows is a Go program."""
        return bool(self._go.get(key))

    def find(
        self, key: FileKey, path: str, shown: str, returns: Returns = Returns.AUTO
    ) -> Allocator | None:
        """What to probe in a file, or None. `path` opens it, `shown` is its name in messages."""
        try:
            version = (*key, *file_version(path), returns)
            known = self._known.get(version)
            if known is None:
                known = (self._examine(key, path, shown, returns),)
                self._known.put(version, known)
        except (ElfError, OSError):
            return None  # it is gone or not a program
        return known[0]

    def _examine(self, key: FileKey, path: str, shown: str, returns: Returns) -> Allocator | None:
        with Elf.open(path) as elf:
            families = find_families(elf, self.prefixes, self.operators)
            if not families:
                self._go.put(key, elf.section(b".go.buildinfo", _MAX_BUILDINFO) is not None)
                return None
            self.matched |= {family.label for family in families} & set(self.prefixes)
            if returns is Returns.AUTO:
                returns = Returns.RET if needs_ret_sites(elf) else Returns.PROBE
            probes = _Probes(elf, returns is Returns.RET, self.may_move, self.operators)
            for family in families:
                probes.add(family)
        told = {"", *self.prefixes}
        untold = {each.shown: None for each in probes.families if each.label not in told}
        found, refused = tuple(probes.found.values()), tuple(probes.refused.items())
        return Allocator(shown, found, refused, tuple(untold), probes.is_mixed)


class _Probes:
    """The probes of a file: one for each function that is no alias of another or a mere jump to it.

    `families`: those that had any. With `operators`, C++ operators may be jumps.
    """

    def __init__(self, elf: Elf, ret_sites: bool, may_move: bool, operators: bool) -> None:
        self.found: dict[int, Probe] = {}
        self.refused: dict[str, str] = {}
        self.families: list[FoundFamily] = []
        self.is_mixed = False
        self._operators = operators
        self._elf = elf
        self._ret_sites = ret_sites
        self._may_move = may_move
        self._exits = ExitFinder(elf)
        self._passes_nothing = not elf.imports(_WAYS_TO_FREE)
        self._covered: dict[int, AllocatorFunction] = {}

    def add(self, family: FoundFamily) -> None:
        before = len(self.found)
        for row, function in family.rows():
            if function.vaddr in self._covered:
                self.is_mixed |= row.kind != self._covered[function.vaddr].kind
                continue
            is_forwarder = self._is_forwarder(row, family, function)
            self._covered[function.vaddr] = row
            if not is_forwarder:
                self._add(row, function, is_standard=not family.label)
        if len(self.found) > before:
            self.families.append(family)

    def _is_forwarder(
        self, row: AllocatorFunction, family: FoundFamily, function: Function
    ) -> bool:
        if row.operator and self._operators:
            return False
        may_be = row.operator or bool(family.label)
        return may_be and self._exits.forwards_to(function, self._covered)

    def _add(self, row: AllocatorFunction, function: Function, is_standard: bool) -> None:
        wants_exits = row.throws or (self._ret_sites and row.returns)
        exits = self._exits.exits(function) if wants_exits else ()
        if exits is None or (not self._may_move and any(e.result_in_argument for e in exits)):
            self.refused[function.name] = "not all of its exits could be found"
            return
        site = self._site(row, function)
        place = function.offset + site.offset
        cookie = _cookie(row, site)
        if is_standard and self._passes_nothing and row.signature is AllocSignature.FREE:
            cookie |= COOKIE_PASSES_NOTHING
        self.found[place] = Probe(function.name, row, place, cookie, exits)

    def _site(self, row: AllocatorFunction, function: Function) -> Site:
        arguments = row.signature.arguments
        if self._ret_sites and row.returns and self._may_move:
            return find_second_site(self._elf, function, arguments)
        return find_site(self._elf, function, arguments, self._may_move)


def _cookie(row: AllocatorFunction, site: Site) -> int:
    cookie = FUNCTION_INDEX[row.name] | row.signature << COOKIE_SIGNATURE_SHIFT
    cookie |= site.pushed << COOKIE_PUSHED_SHIFT
    for argument, word in site.moved:
        cookie |= word + 1 << COOKIE_MOVED_SHIFT + argument * COOKIE_MOVED_BITS
    return cookie
