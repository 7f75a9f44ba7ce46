# SPDX-License-Identifier: Apache-2.0
"""free() and strdup(), for C libraries that pass the ownership of memory."""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_char_p, c_void_p


def free(pointer: c_void_p | int) -> None:
    """Frees memory that a library allocated for its caller."""
    _libc().free(pointer)


def duplicate(text: c_char_p) -> int:
    """Copies a string for a library that frees it."""
    copy: int = _libc().strdup(text)
    return copy


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.free.restype, libc.free.argtypes = None, [c_void_p]
    libc.strdup.restype, libc.strdup.argtypes = c_void_p, [c_char_p]
    return libc
