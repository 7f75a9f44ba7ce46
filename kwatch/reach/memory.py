# SPDX-License-Identifier: Apache-2.0
"""Reads the memory of a process into arrays, without stopping it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.reach.task import task_with_memory

#: Address ranges: one row for each, with its start and its end.
Ranges = U64
Bytes = npt.NDArray[np.uint8]

PAGE = 4096  # every page size of the supported kernels is a multiple
WORD = 8

_MAX_RANGES = 1024  # UIO_MAXIOV
_libc = ctypes.CDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = [
    ctypes.c_int,
    *(ctypes.c_void_p, ctypes.c_ulong),
    *(ctypes.c_void_p, ctypes.c_ulong),
    ctypes.c_ulong,
]


class Unreadable(Exception):
    """No memory is mapped at an address, or it cannot be read."""


def as_ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    return np.array(list(pairs), np.uint64).reshape(-1, 2)


class TargetMemory:
    """The memory of one process. `mem`: an open /proc/PID/mem, which `close` closes.

    A descriptor reads what process_vm_readv(2) refuses: memory without read permission. With a
    given one, all is read through it: the process may have ended (`kwatch.reach.held`), and its pid
    may be that of another program.
    """

    def __init__(self, pid: int, mem: int | None = None) -> None:
        """Raises OSError."""
        self.pid = pid if mem is not None else task_with_memory(pid)
        self._by_pid = mem is None
        self._mem = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY) if mem is None else mem

    def read(self, ranges: Ranges, into: Bytes) -> list[tuple[int, int]]:
        """Reads the ranges one after the other into an array of their total size.

        Returns the ranges that cannot be read; they are filled with zeros.
        """
        unreadable: list[tuple[int, int]] = []
        filled = 0
        for first in range(0, len(ranges), _MAX_RANGES):
            part = ranges[first : first + _MAX_RANGES]
            size = int((part[:, 1] - part[:, 0]).sum())
            at_once = self._read_at_once(part, into[filled : filled + size]) if self._by_pid else 0
            if at_once != size:
                unreadable += self._read_singly(part, into[filled : filled + size])
            filled += size
        return unreadable

    def bytes(self, start: int, size: int) -> Bytes:
        """Raises Unreadable."""
        into = np.empty(size, np.uint8)
        if self.read(as_ranges([(start, start + size)]), into):
            raise Unreadable(f"{size} bytes at {start:#x}")
        return into

    def words(self, start: int, count: int) -> U64:
        """Raises Unreadable."""
        return self.bytes(start, count * WORD).view(np.uint64)

    def close(self) -> None:
        os.close(self._mem)

    def _read_at_once(self, ranges: Ranges, into: Bytes) -> int:
        """Returns how many bytes could be read; fewer than all if some range cannot."""
        remote = np.column_stack((ranges[:, 0], ranges[:, 1] - ranges[:, 0]))
        local = np.array([into.ctypes.data, len(into)], np.uint64)
        at, vectors = local.ctypes.data, np.ascontiguousarray(remote)
        return int(_readv(self.pid, at, 1, vectors.ctypes.data, len(vectors), 0))

    def _read_singly(self, ranges: Ranges, into: Bytes) -> list[tuple[int, int]]:
        unreadable: list[tuple[int, int]] = []
        view, filled = into.data, 0
        for start, end in ranges.tolist():
            while start < end:
                count = self._read_some(start, view[filled : filled + end - start])
                if count <= 0:
                    count = min(end, (start // PAGE + 1) * PAGE) - start
                    view[filled : filled + count] = bytes(count)
                    _add(unreadable, start, start + count)
                start += count
                filled += count
        return unreadable

    def _read_some(self, start: int, into: memoryview) -> int:
        """Fewer bytes than asked for if the next page cannot be read; 0 if the first cannot."""
        try:
            return os.preadv(self._mem, [into], start)
        except OSError:  # EIO, EFAULT: the page; ESRCH: the process
            return 0


def _add(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Adds a range, which may continue the last one."""
    if ranges and ranges[-1][1] == start:
        start = ranges.pop()[0]
    ranges.append((start, end))
