# SPDX-License-Identifier: Apache-2.0
"""Finds functions by name, or by the end of a name, and variables by address, in symbol tables.

Without a Python loop over the symbols.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.elf.layout import (
    SHN_UNDEF,
    STB_LOCAL,
    STT_FUNC,
    STT_OBJECT,
    VERSYM_HIDDEN,
    Records,
)

_MAX_PREFIX = 256  # characters
_MAX_PREFIXES = 256

Versions = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """A symbol section, its string table, and its versions (empty except for `.dynsym`)."""

    symbols: Records
    strings: bytes
    versions: Versions

    def find(self, names: Iterable[str], kind: int = STT_FUNC) -> Iterator[tuple[str, int, int]]:
        """(name, vaddr, size) of each defined symbol of this type among `names`, once per name.

        A global symbol has precedence over a local one, and then the default version over others.
        """
        is_kind = self._is_of(kind)
        found, rank = self.symbols[is_kind], self._rank()[is_kind]
        for name, hits in _named(found["name"], self.strings, names):
            best = found[hits[np.argmax(rank[hits])]]
            yield name, int(best["value"]), int(best["size"])

    def rows(self, names: Iterable[str]) -> list[int]:
        """The indexes of all symbols of these names, also of those that the file needs."""
        hits = _named(self.symbols["name"], self.strings, names)
        return [index for _, found in hits for index in found.tolist()]

    def imports(self, names: Iterable[str]) -> bool:
        """Whether one of these names is of a symbol that the file needs."""
        return bool((self.symbols["shndx"][self.rows(names)] == SHN_UNDEF).any())

    def variable_at(self, vaddr: int) -> tuple[str, int] | None:
        """The STT_OBJECT that contains this address, and the offset in it.

        Of several names, a global one.
        """
        rows, at = self.symbols, np.uint64(vaddr)
        is_there = (rows["info"] & 0xF == STT_OBJECT) & (rows["shndx"] != SHN_UNDEF)
        is_there &= (rows["value"] <= at) & (at - rows["value"] < rows["size"])
        hits = np.flatnonzero(is_there)
        if not len(hits):
            return None
        best = rows[hits[np.argmax(self._rank()[hits])]]
        start = int(best["name"])
        name = self.strings[start : self.strings.index(b"\0", start)]
        return name.decode("utf-8", "surrogateescape"), vaddr - int(best["value"])

    def prefixes(self, ending: str) -> set[str]:
        """What comes before `ending` in the names of the functions that end so.

        Strings share their ends: one that is found may hold several names.
        """
        key = ending.encode() + b"\0"
        starts: npt.NDArray[np.uint32] | None = None
        found: set[str] = set()
        at = self.strings.find(key)
        while at >= 0 and len(found) < _MAX_PREFIXES:
            if starts is None:
                starts = np.unique(self.symbols[self._is_of(STT_FUNC)]["name"])
            begin = self.strings.rfind(b"\0", max(at - _MAX_PREFIX, 0), at) + 1
            low, high = np.searchsorted(starts, (begin, at + 1))
            for start in starts[low:high].tolist():
                found.add(self.strings[start:at].decode("utf-8", "surrogateescape"))
            at = self.strings.find(key, at + 1)
        return found

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether the table has one of these names, defined or not."""
        return any(b"\0" + name.encode() + b"\0" in self.strings for name in names)

    def names(self, most: int) -> Iterator[str]:
        """The names of at most so many variables and functions."""
        starts = self.symbols["name"][self._is_of(STT_OBJECT) | self._is_of(STT_FUNC)]
        for start in starts[:most].tolist():
            name = self.strings[start : self.strings.index(b"\0", start)]
            yield name.decode("utf-8", "surrogateescape")

    def _is_of(self, kind: int) -> npt.NDArray[np.bool_]:
        is_kind: npt.NDArray[np.bool_] = (self.symbols["info"] & 0xF) == kind
        is_kind &= self.symbols["shndx"] != SHN_UNDEF
        return is_kind

    def _rank(self) -> npt.NDArray[np.int64]:
        is_global = (self.symbols["info"] >> 4) != STB_LOCAL
        if len(self.versions) != len(self.symbols):
            return np.where(is_global, 1, 0)
        is_default = (self.versions & VERSYM_HIDDEN) == 0
        return np.where(is_global, 2, 0) + np.where(is_default, 1, 0)


def _named(
    starts: npt.NDArray[np.uint32], strings: bytes, names: Iterable[str]
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """Each name that occurs, with the indexes in `starts` of its occurrences."""
    text = np.frombuffer(strings, dtype=np.uint8)
    for length, group in _by_length(names).items():
        rows = _ended(text, starts, length)
        if not len(rows):
            continue
        letters = np.lib.stride_tricks.sliding_window_view(text, length)[starts[rows]]
        keys = np.ascontiguousarray(letters).view(f"S{length}").ravel()
        for name, key in group:
            hits = rows[keys == key]
            if len(hits):
                yield name, hits


def _ended(
    text: npt.NDArray[np.uint8], starts: npt.NDArray[np.uint32], length: int
) -> npt.NDArray[np.intp]:
    """The indexes in `starts` of strings that have a NUL after this many bytes."""
    ends = starts.astype(np.int64) + length
    inside = np.flatnonzero(ends < len(text))
    found: npt.NDArray[np.intp] = inside[text[ends[inside]] == 0]
    return found


def _by_length(names: Iterable[str]) -> dict[int, list[tuple[str, bytes]]]:
    groups: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for name in sorted(set(names) - {""}):
        key = name.encode("utf-8", "surrogateescape")
        groups[len(key)].append((name, key))
    return groups
