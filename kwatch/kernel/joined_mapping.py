# SPDX-License-Identifier: Apache-2.0
"""Files mapped one behind the other, which Python's mmap cannot.

A ring that is mapped twice has no seam, and tables of several maps are one array.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence

_MAP_FIXED = 0x10  # asm-generic/mman-common.h
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
_libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t


class JoinedMapping:
    """The first `size` bytes, whole pages, of each file, in a row in `buffer`."""

    def __init__(self, fds: Sequence[int], size: int, writable: bool = False) -> None:
        """Raises OSError."""
        self._length = len(fds) * size
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        reserved = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._address = _mapped(0, self._length, 0, reserved, -1)
        try:
            for number, fd in enumerate(fds):
                at = self._address + number * size
                _mapped(at, size, protection, mmap.MAP_SHARED | _MAP_FIXED, fd)
        except OSError:
            self.close()
            raise
        self.buffer = (ctypes.c_char * self._length).from_address(self._address)

    def close(self) -> None:
        """Nothing may refer to `buffer` any more."""
        _libc.munmap(self._address, self._length)


def _mapped(address: int, size: int, protection: int, flags: int, fd: int) -> int:
    found = _libc.mmap(address, size, protection, flags, fd, 0)
    if found == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(found)
