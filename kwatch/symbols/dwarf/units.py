# SPDX-License-Identifier: Apache-2.0
"""Source lines of compilation units that are not in `.debug_aranges`.

libdw finds units only by that section, and clang does not write it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from ctypes import byref, c_int, c_uint64
from dataclasses import dataclass, field
from itertools import islice

from kwatch.symbols.dwarf.libdw_api import DW_AT_COMP_DIR, Attribute, load_libdw

_MAX_RANGES = 1 << 20


@dataclass(frozen=True, slots=True)
class CompilationUnit:
    """A Dwarf_Die. `bias`: the address in libdw less the address in the debug information."""

    die: int
    bias: int


@dataclass(frozen=True, slots=True, order=True)
class _Range:
    """Addresses in libdw."""

    start: int
    end: int
    unit: CompilationUnit = field(compare=False)


class Units:
    """The units of a Dwfl_Module, by address."""

    def __init__(self, module: int) -> None:
        self._ranges = sorted(islice(_ranges(module), _MAX_RANGES))

    def find(self, address: int) -> CompilationUnit | None:
        index = bisect_right(self._ranges, address, key=lambda each: each.start) - 1
        if index < 0 or address >= self._ranges[index].end:
            return None
        return self._ranges[index].unit

    def source(self, address: int) -> tuple[bytes, bytes, int] | None:
        """(directory, file, line). Line 0: no source."""
        dw, unit = load_libdw(), self.find(address)
        if unit is None:
            return None
        line = dw.dwarf_getsrc_die(unit.die, address - unit.bias)
        number = c_int()
        name = line and dw.dwarf_linesrc(line, None, None)
        if not name or dw.dwarf_lineno(line, byref(number)):
            return None
        return directory_of(unit.die), name, number.value


def _ranges(module: int) -> Iterator[_Range]:
    dw = load_libdw()
    bias = c_uint64()
    unit = dw.dwfl_module_nextcu(module, None, byref(bias))
    while unit:
        for start, end in ranges_of(unit):
            yield _Range(start + bias.value, end + bias.value, CompilationUnit(unit, bias.value))
        unit = dw.dwfl_module_nextcu(module, unit, byref(bias))


def ranges_of(die: object) -> Iterator[tuple[int, int]]:
    """(start, end) of each range of a Dwarf_Die or its address.

    Functions that the linker dropped have ranges that begin at 0, which are left out.
    """
    dw = load_libdw()
    base, start, end = c_uint64(), c_uint64(), c_uint64()
    at = dw.dwarf_ranges(die, 0, byref(base), byref(start), byref(end))
    while at > 0:
        if start.value:
            yield start.value, end.value
        at = dw.dwarf_ranges(die, at, byref(base), byref(start), byref(end))


def directory_of(unit: object) -> bytes:
    """The directory of the compilation. `unit` is a Dwarf_Die or its address."""
    dw, attribute = load_libdw(), Attribute()
    if not dw.dwarf_attr(unit, DW_AT_COMP_DIR, byref(attribute)):
        return b""
    return dw.dwarf_formstring(byref(attribute)) or b""
