# SPDX-License-Identifier: Apache-2.0
"""The functions of a compilation unit by address, also those in namespaces and types.

rustc and clang put functions there, but dwarf_getscopes() does not search them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from ctypes import byref

from kwatch.symbols.dwarf.libdw_api import (
    DW_TAG_INLINED_SUBROUTINE,
    DW_TAG_SUBPROGRAM,
    Die,
    load_libdw,
)
from kwatch.symbols.dwarf.units import ranges_of

#: Class, structure, union, interface, module, namespace.
_HOLDERS = frozenset((0x02, 0x13, 0x17, 0x38, 0x1E, 0x39))
#: Lexical block, inlined subroutine, catch block, try block.
_BLOCKS = frozenset((0x0B, DW_TAG_INLINED_SUBROUTINE, 0x25, 0x32))
_MAX_ENTRIES = 2_000_000
_MAX_DEPTH = 64


class UnitFunctions:
    """Reads all functions of a unit once; finds those at an address."""

    def __init__(self, unit: Die) -> None:
        self._left = _MAX_ENTRIES
        found = list(self._functions(unit, 0))
        found.sort(key=lambda each: each[0])
        self._starts = [start for start, _, _ in found]
        self._found = found

    def enclosing(self, address: int) -> list[Die]:
        """The blocks around an address and their function, innermost first."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._found[index][1]:
            return []
        chain = [self._found[index][2]]
        while len(chain) < _MAX_DEPTH and (inner := _block_at(chain[-1], address)) is not None:
            chain.append(inner)
        return chain[::-1]

    def _functions(self, parent: Die, depth: int) -> Iterator[tuple[int, int, Die]]:
        dw = load_libdw()
        for die in _children(parent):
            self._left -= 1
            if self._left < 0:
                return
            tag = dw.dwarf_tag(byref(die))
            if tag == DW_TAG_SUBPROGRAM:
                for start, end in ranges_of(byref(die)):
                    yield start, end, Die.from_buffer_copy(die)
            elif tag in _HOLDERS and depth < _MAX_DEPTH:
                yield from self._functions(die, depth + 1)


def _block_at(parent: Die, address: int) -> Die | None:
    dw = load_libdw()
    for die in _children(parent):
        if dw.dwarf_tag(byref(die)) in _BLOCKS and dw.dwarf_haspc(byref(die), address) > 0:
            return die
    return None


def _children(parent: Die) -> Iterator[Die]:
    """The children of an entry. Yields one object, which the next step overwrites."""
    dw, die = load_libdw(), Die()
    if dw.dwarf_child(byref(parent), byref(die)):
        return
    yield die
    while not dw.dwarf_siblingof(byref(die), byref(die)):
        yield die
