# SPDX-License-Identifier: Apache-2.0
"""The functions of elfutils' libdw that kwatch calls, with the types of <elfutils/libdwfl.h>."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_ssize_t, c_uint64, c_void_p
from typing import Any

from kwatch.errors import KwatchError

DW_TAG_INLINED_SUBROUTINE, DW_TAG_SUBPROGRAM = 0x1D, 0x2E
DW_AT_COMP_DIR = 0x1B
DW_AT_CALL_FILE, DW_AT_CALL_LINE = 0x58, 0x59
DW_AT_LINKAGE_NAME, DW_AT_MIPS_LINKAGE_NAME = 0x6E, 0x2007
_ELF_C_READ = 1


class Callbacks(ctypes.Structure):
    """Dwfl_Callbacks."""

    _fields_ = (
        ("find_elf", c_void_p),
        ("find_debuginfo", c_void_p),
        ("section_address", c_void_p),
        ("debuginfo_path", c_void_p),
    )


class Symbol(ctypes.Structure):
    """GElf_Sym."""

    _fields_ = (
        ("name", ctypes.c_uint32),
        ("info", ctypes.c_uint8),
        ("other", ctypes.c_uint8),
        ("section", ctypes.c_uint16),
        ("value", c_uint64),
        ("size", c_uint64),
    )


class Attribute(ctypes.Structure):
    """Dwarf_Attribute."""

    _fields_ = (
        ("code", ctypes.c_uint),
        ("form", ctypes.c_uint),
        ("value", c_void_p),
        ("unit", c_void_p),
    )


class Die(ctypes.Structure):
    """Dwarf_Die."""

    _fields_ = (
        ("address", c_void_p),
        ("unit", c_void_p),
        ("abbreviation", c_void_p),
        ("padding", ctypes.c_long),
    )


FIND_DEBUGINFO = ctypes.CFUNCTYPE(
    c_int,
    c_void_p,
    c_void_p,
    c_char_p,
    c_uint64,
    c_char_p,
    c_char_p,
    ctypes.c_uint32,
    POINTER(c_void_p),
)
_U64 = POINTER(c_uint64)
_DIE = POINTER(Die)
_DIES = POINTER(_DIE)
_INT = POINTER(c_int)
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "dwarf_attr": (c_void_p, [c_void_p, c_int, POINTER(Attribute)]),
    "dwarf_attr_integrate": (c_void_p, [_DIE, c_int, POINTER(Attribute)]),
    "dwarf_cfi_addrframe": (c_int, [c_void_p, c_uint64, POINTER(c_void_p)]),
    "dwarf_child": (c_int, [_DIE, _DIE]),
    "dwarf_cu_info": (
        c_int,
        [c_void_p, c_void_p, c_void_p, c_void_p, _DIE, c_void_p, c_void_p, c_void_p],
    ),
    "dwarf_diename": (c_char_p, [_DIE]),
    "dwarf_entrypc": (c_int, [_DIE, _U64]),
    "dwarf_filesrc": (c_char_p, [c_void_p, c_size_t, c_void_p, c_void_p]),
    "dwarf_formstring": (c_char_p, [POINTER(Attribute)]),
    "dwarf_formudata": (c_int, [POINTER(Attribute), _U64]),
    "dwarf_frame_info": (c_int, [c_void_p, _U64, _U64, POINTER(c_bool)]),
    "dwarf_getscopes": (c_int, [_DIE, c_uint64, _DIES]),
    "dwarf_getscopes_die": (c_int, [_DIE, _DIES]),
    "dwarf_getsrcfiles": (c_int, [_DIE, POINTER(c_void_p), POINTER(c_size_t)]),
    "dwarf_getsrc_die": (c_void_p, [c_void_p, c_uint64]),
    "dwarf_haspc": (c_int, [_DIE, c_uint64]),
    "dwarf_lineno": (c_int, [c_void_p, _INT]),
    "dwarf_linesrc": (c_char_p, [c_void_p, c_void_p, c_void_p]),
    "dwarf_ranges": (c_ssize_t, [c_void_p, c_ssize_t, _U64, _U64, _U64]),
    "dwarf_siblingof": (c_int, [_DIE, _DIE]),
    "dwarf_tag": (c_int, [_DIE]),
    "dwelf_elf_gnu_build_id": (c_ssize_t, [c_void_p, POINTER(c_void_p)]),
    "dwfl_begin": (c_void_p, [POINTER(Callbacks)]),
    "dwfl_end": (None, [c_void_p]),
    "dwfl_errmsg": (c_char_p, [c_int]),
    "dwfl_errno": (c_int, []),
    "dwfl_line_comp_dir": (c_char_p, [c_void_p]),
    "dwfl_lineinfo": (c_char_p, [c_void_p, _U64, _INT, _INT, c_void_p, c_void_p]),
    "dwfl_module_addrdie": (c_void_p, [c_void_p, c_uint64, _U64]),
    "dwfl_module_addrinfo": (
        c_char_p,
        [c_void_p, c_uint64, _U64, POINTER(Symbol), c_void_p, c_void_p, _U64],
    ),
    "dwfl_module_eh_cfi": (c_void_p, [c_void_p, _U64]),
    "dwfl_module_build_id": (c_int, [c_void_p, POINTER(c_void_p), _U64]),
    "dwfl_module_getdwarf": (c_void_p, [c_void_p, _U64]),
    "dwfl_module_getelf": (c_void_p, [c_void_p, _U64]),
    "dwfl_module_getsrc": (c_void_p, [c_void_p, c_uint64]),
    "dwfl_module_nextcu": (c_void_p, [c_void_p, c_void_p, _U64]),
    "dwfl_report_elf": (c_void_p, [c_void_p, c_char_p, c_char_p, c_int, c_uint64, c_bool]),
    "dwfl_report_end": (c_int, [c_void_p, c_void_p, c_void_p]),
    "dwfl_standard_find_debuginfo": (
        c_int,
        [
            c_void_p,
            c_void_p,
            c_char_p,
            c_uint64,
            c_char_p,
            c_char_p,
            ctypes.c_uint32,
            POINTER(c_void_p),
        ],
    ),
}
_LIBELF: dict[str, tuple[Any, list[Any]]] = {
    "elf_begin": (c_void_p, [c_int, c_int, c_void_p]),
    "elf_end": (c_int, [c_void_p]),
    "elf_version": (ctypes.c_uint, [ctypes.c_uint]),
}


@functools.cache
def load_libdw() -> ctypes.CDLL:
    """Raises KwatchError, with the package to install, if there is no libdw."""
    try:
        library = ctypes.CDLL("libdw.so.1")
    except OSError as err:
        reason = f"cannot load libdw, which reads symbols and debug information: {err}"
        raise KwatchError(reason, "apt install libdw1") from err
    _declare(library, _PROTOTYPES)
    return library


def _declare(library: ctypes.CDLL, prototypes: dict[str, tuple[Any, list[Any]]]) -> None:
    for name, (result, arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def offline_callbacks(find_debuginfo: Any = None) -> Callbacks:
    """For files, not processes. libdw keeps a pointer to them, so keep them alive.

    `find_debuginfo`: a FIND_DEBUGINFO instead of that of libdw.
    """
    library = load_libdw()
    return Callbacks(
        ctypes.cast(library.dwfl_build_id_find_elf, c_void_p),
        ctypes.cast(find_debuginfo or library.dwfl_standard_find_debuginfo, c_void_p),
        ctypes.cast(library.dwfl_offline_section_address, c_void_p),
    )


def build_id_of(fd: int) -> bytes | None:
    """The build-id of an ELF file of any kind, or None."""
    libdw, libelf = load_libdw(), _load_libelf()
    elf = libelf.elf_begin(fd, _ELF_C_READ, None)
    if not elf:
        return None
    try:
        data = c_void_p()
        size = libdw.dwelf_elf_gnu_build_id(elf, ctypes.byref(data))
        return ctypes.string_at(data, size) if size > 0 and data.value else None
    finally:
        libelf.elf_end(elf)


@functools.cache
def _load_libelf() -> ctypes.CDLL:
    library = ctypes.CDLL("libelf.so.1")
    _declare(library, _LIBELF)
    library.elf_version(1)
    return library


def last_error() -> str:
    library = load_libdw()
    message: bytes | None = library.dwfl_errmsg(library.dwfl_errno())
    return (message or b"unknown error of libdw").decode("utf-8", "replace")
