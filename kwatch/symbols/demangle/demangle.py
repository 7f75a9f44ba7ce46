# SPDX-License-Identifier: Apache-2.0
"""Demangles C++ and Rust names. Without libstdc++, C++ names stay mangled."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from kwatch.symbols.demangle.rust_legacy import demangle_legacy
from kwatch.symbols.demangle.rust_v0 import demangle_v0
from kwatch.symbols.dwarf.libc import free

#: Longer names are cut: nobody reads them, and a damaged file may contain any.
MAX_LENGTH = 4096


@functools.lru_cache(maxsize=4096)
def demangle(name: str) -> str:
    """The demangled name; a name that is not mangled is returned as it is."""
    if not name.startswith(("_Z", "_R")):
        return _clipped(name)
    readable = demangle_legacy(name) or demangle_v0(name)
    return _clipped(readable or (_demangle_cpp(name) if len(name) <= MAX_LENGTH else name))


def _clipped(name: str) -> str:
    return name if len(name) <= MAX_LENGTH else name[: MAX_LENGTH - 3] + "..."


def _demangle_cpp(name: str) -> str:
    demangler = _demangler()
    if demangler is None or not name.startswith("_Z"):
        return name
    status = ctypes.c_int()
    result = demangler(name.encode("utf-8", "surrogateescape"), None, None, ctypes.byref(status))
    if not result:
        return name
    try:
        return ctypes.string_at(result).decode("utf-8", "surrogateescape")
    finally:
        free(result)


@functools.cache
def _demangler() -> Callable[..., int | None] | None:
    try:
        function = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return function
