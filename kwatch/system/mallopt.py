# SPDX-License-Identifier: Apache-2.0
"""Keeps freed memory in kwatch's own heap, for the next batch."""

from __future__ import annotations

import ctypes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_KEPT = 64 << 20
_MAX_SIZE = 32 << 20  # the most that M_MMAP_THRESHOLD may be


def keep_freed_memory() -> None:
    """Stops glibc from returning freed memory to the kernel.

    Each batch allocates and frees arrays of the same few hundred KB. Otherwise every batch would
    fault their pages in again, which costs 10 to 20 ns per event. Other C libraries have no
    mallopt(3) and keep their defaults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAX_SIZE)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
