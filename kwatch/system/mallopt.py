# SPDX-License-Identifier: Apache-2.0
"""Keeps memory that kwatch frees in its own heap, for the next batch."""

from __future__ import annotations

import ctypes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_KEPT = 64 << 20
_MAX_SIZE = 32 << 20  # the most that M_MMAP_THRESHOLD may be


def keep_freed_memory() -> None:
    """Each batch takes arrays of the same few hundred KB and frees them.

    glibc would give them back to the kernel, and every batch would fault its pages in again: 10 to
    20 ns an event. Other C libraries have no mallopt(3), and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAX_SIZE)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
