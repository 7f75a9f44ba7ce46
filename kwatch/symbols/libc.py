# SPDX-License-Identifier: Apache-2.0
"""free(), for what a C library allocated for its caller."""

from __future__ import annotations

import ctypes
import functools


def free(pointer: ctypes.c_void_p | int) -> None:
    _libc().free(pointer)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc
