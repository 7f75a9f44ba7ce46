# SPDX-License-Identifier: Apache-2.0
"""C++ names as they were written, by libstdc++; without it, names stay as the linker knows them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from kwatch.symbols.libc import free


@functools.lru_cache(maxsize=65536)
def demangle(name: str) -> str:
    """The C++ name of a mangled one; any other name as it is."""
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
