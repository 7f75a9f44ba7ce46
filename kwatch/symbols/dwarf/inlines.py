# SPDX-License-Identifier: Apache-2.0
"""The functions at an address by debug information: inlined ones, then the one around them."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import POINTER, byref, c_int, c_size_t, c_uint64, c_void_p, cast
from dataclasses import dataclass

from kwatch.symbols.dwarf.functions import UnitFunctions
from kwatch.symbols.dwarf.libc import free
from kwatch.symbols.dwarf.libdw_api import (
    DW_AT_CALL_FILE,
    DW_AT_CALL_LINE,
    DW_AT_LINKAGE_NAME,
    DW_AT_MIPS_LINKAGE_NAME,
    DW_TAG_INLINED_SUBROUTINE,
    DW_TAG_SUBPROGRAM,
    Attribute,
    Die,
    load_libdw,
)
from kwatch.symbols.dwarf.units import directory_of
from kwatch.system.lru import Lru

_MAX_DEPTH = 256
_MAX_UNITS = 64


@dataclass(frozen=True, slots=True)
class Scope:
    """A function. If it was inlined, `directory`, `call_file` and `call_line` say where.

    `name` is mangled if the language mangles names. `start` is the entry address, 0 if unknown.
    """

    name: bytes
    inlined: bool
    start: int = 0
    directory: bytes = b""
    call_file: bytes = b""
    call_line: int = 0


class Inlines:
    """The functions of one module. Remembers those of the units that it had to search."""

    def __init__(self) -> None:
        self._functions: Lru[int, UnitFunctions] = Lru(_MAX_UNITS)

    def at(self, unit: int, address: int) -> list[Scope]:
        """The functions around an address, innermost first. `unit` is the Dwarf_Die of its unit."""
        whole = _with_split(unit)
        found = _scopes(unit, whole, list(_enclosing(whole, address)))
        if found and not found[-1].inlined:
            return found
        functions = self._functions.get(unit)
        if functions is None:
            functions = UnitFunctions(whole)
            self._functions.put(unit, functions)
        return _scopes(unit, whole, functions.enclosing(address))


def _scopes(unit: int, whole: Die, dies: list[Die]) -> list[Scope]:
    found: list[Scope] = []
    for die in dies:
        tag = load_libdw().dwarf_tag(byref(die))
        if tag == DW_TAG_INLINED_SUBROUTINE:
            file, line = _call_site(whole, die)
            directory = directory_of(unit)
            found.append(Scope(_name(die), True, 0, directory, file, line))
        elif tag == DW_TAG_SUBPROGRAM:
            found.append(Scope(_name(die), False, _entry(die)))
            break
    return found[:_MAX_DEPTH]


def _with_split(unit: int) -> Die:
    """The unit, or its part in the file that `-gsplit-dwarf` made, if that file exists."""
    skeleton = cast(unit, POINTER(Die)).contents
    kind, split = c_int(), Die()
    dw = load_libdw()
    if dw.dwarf_cu_info(skeleton.unit, None, byref(kind), None, byref(split), None, None, None):
        return skeleton
    return split if split.address else skeleton


def _enclosing(unit: Die, address: int) -> Iterator[Die]:
    """The entries around an address, innermost first.

    From an inlined function dwarf_getscopes() continues with the scope of its definition,
    dwarf_getscopes_die() with the function into which it was inlined.
    """
    dw = load_libdw()
    dies = POINTER(Die)()
    if dw.dwarf_getscopes(byref(unit), address, byref(dies)) <= 0:
        return
    innermost = Die.from_buffer_copy(dies[0])
    free(cast(dies, c_void_p))
    count = dw.dwarf_getscopes_die(byref(innermost), byref(dies))
    if count <= 0:
        return
    try:
        yield from (Die.from_buffer_copy(dies[index]) for index in range(count))
    finally:
        free(cast(dies, c_void_p))


def _name(die: Die) -> bytes:
    dw, attribute = load_libdw(), Attribute()
    for code in (DW_AT_LINKAGE_NAME, DW_AT_MIPS_LINKAGE_NAME):
        if dw.dwarf_attr_integrate(byref(die), code, byref(attribute)):
            name: bytes | None = dw.dwarf_formstring(byref(attribute))
            if name:
                return name
    return dw.dwarf_diename(byref(die)) or b""


def _entry(die: Die) -> int:
    start = c_uint64()
    return 0 if load_libdw().dwarf_entrypc(byref(die), byref(start)) else start.value


def _call_site(unit: Die, die: Die) -> tuple[bytes, int]:
    line = _number(die, DW_AT_CALL_LINE)
    files, count = c_void_p(), c_size_t()
    dw = load_libdw()
    if not line or dw.dwarf_getsrcfiles(byref(unit), byref(files), byref(count)):
        return b"", 0
    return dw.dwarf_filesrc(files, _number(die, DW_AT_CALL_FILE), None, None) or b"", line


def _number(die: Die, code: int) -> int:
    dw, attribute, value = load_libdw(), Attribute(), c_uint64()
    if not dw.dwarf_attr(byref(die), code, byref(attribute)):
        return 0
    return 0 if dw.dwarf_formudata(byref(attribute), byref(value)) else value.value
