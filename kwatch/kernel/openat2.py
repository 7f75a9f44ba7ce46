# SPDX-License-Identifier: Apache-2.0
"""openat2(2), which resolves a path below a directory."""

from __future__ import annotations

import ctypes
import enum

from kwatch.kernel.syscall import syscall


class Resolve(enum.IntFlag):
    """include/uapi/linux/openat2.h. CACHED needs Linux 5.12: others refuse it (EINVAL)."""

    IN_ROOT = 0x10
    CACHED = 0x20


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(directory: int, path: bytes, flags: int, resolve: Resolve) -> int:
    """Returns a descriptor. Raises OSError."""
    how = _OpenHow(flags, 0, resolve)
    name = ctypes.create_string_buffer(path)
    return syscall("openat2", directory, name, how, ctypes.sizeof(how))
