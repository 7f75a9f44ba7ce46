# SPDX-License-Identifier: Apache-2.0
"""Memory of the test's own process with known pages."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class OwnMemory:
    """Some pages of anonymous memory. Only written ones exist."""

    def __init__(self, pages: int, flags: int = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) -> None:
        self._map = mmap.mmap(-1, pages * PAGE, flags)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.bytes = np.frombuffer(self._map, np.uint8)
        self.start = self.bytes.ctypes.data
        self.end = self.start + pages * PAGE

    def write(self, *pages: int) -> None:
        """Writes each page's number plus 1 to all of its bytes."""
        for page in pages:
            self.bytes[page * PAGE : (page + 1) * PAGE] = page + 1

    def at(self, page: int) -> int:
        return self.start + page * PAGE

    def protect(self, page: int, protection: int) -> None:
        self._call(_libc.mprotect, page, protection)

    def unmap(self, page: int) -> None:
        self._call(_libc.munmap, page)

    def _call(self, function, page: int, *arguments: int) -> None:
        if function(ctypes.c_void_p(self.at(page)), ctypes.c_size_t(PAGE), *arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
