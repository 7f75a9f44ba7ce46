# SPDX-License-Identifier: Apache-2.0
"""The functions of elfutils' libdw that kwatch calls, with the types of <elfutils/libdwfl.h>."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_bool, c_char_p, c_int, c_ssize_t, c_uint64, c_void_p
from typing import Any

from kwatch.errors import KwatchError

DW_AT_COMP_DIR = 0x1B


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


_U64 = POINTER(c_uint64)
_INT = POINTER(c_int)
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "dwarf_attr": (c_void_p, [c_void_p, c_int, POINTER(Attribute)]),
    "dwarf_cfi_addrframe": (c_int, [c_void_p, c_uint64, POINTER(c_void_p)]),
    "dwarf_formstring": (c_char_p, [POINTER(Attribute)]),
    "dwarf_frame_info": (c_int, [c_void_p, _U64, _U64, POINTER(c_bool)]),
    "dwarf_getsrc_die": (c_void_p, [c_void_p, c_uint64]),
    "dwarf_lineno": (c_int, [c_void_p, _INT]),
    "dwarf_linesrc": (c_char_p, [c_void_p, c_void_p, c_void_p]),
    "dwarf_ranges": (c_ssize_t, [c_void_p, c_ssize_t, _U64, _U64, _U64]),
    "dwfl_begin": (c_void_p, [POINTER(Callbacks)]),
    "dwfl_end": (None, [c_void_p]),
    "dwfl_errmsg": (c_char_p, [c_int]),
    "dwfl_errno": (c_int, []),
    "dwfl_line_comp_dir": (c_char_p, [c_void_p]),
    "dwfl_lineinfo": (c_char_p, [c_void_p, _U64, _INT, _INT, c_void_p, c_void_p]),
    "dwfl_module_addrinfo": (
        c_char_p,
        [c_void_p, c_uint64, _U64, POINTER(Symbol), c_void_p, c_void_p, _U64],
    ),
    "dwfl_module_eh_cfi": (c_void_p, [c_void_p, _U64]),
    "dwfl_module_getelf": (c_void_p, [c_void_p, _U64]),
    "dwfl_module_getsrc": (c_void_p, [c_void_p, c_uint64]),
    "dwfl_module_nextcu": (c_void_p, [c_void_p, c_void_p, _U64]),
    "dwfl_report_elf": (c_void_p, [c_void_p, c_char_p, c_char_p, c_int, c_uint64, c_bool]),
    "dwfl_report_end": (c_int, [c_void_p, c_void_p, c_void_p]),
}


@functools.cache
def load_libdw() -> ctypes.CDLL:
    """Raises KwatchError, with the package to install, where there is no libdw."""
    try:
        library = ctypes.CDLL("libdw.so.1")
    except OSError as err:
        reason = f"cannot load libdw, which reads symbols and debug information: {err}"
        raise KwatchError(reason, "apt install libdw1") from err
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@functools.cache
def offline_callbacks() -> Callbacks:
    """For files that no process need be running. Kept for ever: libdw holds a pointer to them."""
    library = load_libdw()
    return Callbacks(
        ctypes.cast(library.dwfl_build_id_find_elf, c_void_p),
        ctypes.cast(library.dwfl_standard_find_debuginfo, c_void_p),
        ctypes.cast(library.dwfl_offline_section_address, c_void_p),
    )


def last_error() -> str:
    library = load_libdw()
    message: bytes | None = library.dwfl_errmsg(library.dwfl_errno())
    return (message or b"unknown error of libdw").decode("utf-8", "replace")
