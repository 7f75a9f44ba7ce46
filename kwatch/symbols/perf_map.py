# SPDX-License-Identifier: Apache-2.0
"""Names of code that runtimes make while they run, from the perf maps that they write for it.

CPython (`-X perf`), node (`--perf-basic-prof`) and agents of JVMs append a line for each function
to `/tmp/perf-PID.map`: start and size in hexadecimal, then the name. Later lines are newer.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_LINE = re.compile(rb"(?:0x)?([0-9a-fA-F]{1,16}) (?:0x)?([0-9a-fA-F]{1,16}) ([^\r\n]+)")
_LARGEST_READ = 64 << 20
_MOST_FUNCTIONS = 100_000
_LONGEST_NAME = 512
_LARGEST_FUNCTION = 1 << 30
_LARGEST_ADDRESS = 1 << 63

Addresses = npt.NDArray[np.uint64]
Ages = npt.NDArray[np.int64]
Indexes = npt.NDArray[np.intp]


class Function(NamedTuple):
    start: int
    end: int
    name: bytes


class PerfMap:
    """The map of one process. Whatever is in it, reading it raises nothing.

    `full`: the map has more functions than are kept, and those that came later are not known.
    """

    def __init__(self, fd: int) -> None:
        """Takes over `fd`."""
        self._fd = fd
        self._done = 0
        self._rest = b""
        self._forget()
        self.full = False

    def close(self) -> None:
        os.close(self._fd)

    def same_file(self, status: os.stat_result) -> bool:
        own = os.fstat(self._fd)
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)

    def find(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the function that holds the address; of several, the newest."""
        self._read_on()
        index = int(np.searchsorted(self._starts, np.uint64(address), "right")) - 1
        if index < 0 or address >= int(self._ends[index]):
            return None
        name = self._names[index].decode("utf-8", "surrogateescape")
        return name, address - int(self._starts[index])

    def _forget(self) -> None:
        self._done, self._rest, self.full = 0, b"", False
        self._starts = self._ends = np.empty(0, dtype=np.uint64)
        self._names: list[bytes] = []

    def _read_on(self) -> None:
        size = os.fstat(self._fd).st_size
        if size < self._done:  # written anew
            self._forget()
        found: list[Function] = []
        while self._done < min(size, _LARGEST_READ) and not self.full:
            data = os.pread(self._fd, 1 << 20, self._done)
            if not data:
                break
            self._done += len(data)
            *lines, rest = (self._rest + data).split(b"\n")
            self._rest = rest[:4096]
            found += filter(None, map(_function, lines))
            self.full = len(found) + len(self._names) >= _MOST_FUNCTIONS
        if found:
            self._merge(found)

    def _merge(self, newer: list[Function]) -> None:
        names = self._names + [function.name for function in newer]
        starts = np.array([function.start for function in newer], dtype=np.uint64)
        ends = np.array([function.end for function in newer], dtype=np.uint64)
        starts, ends = np.append(self._starts, starts), np.append(self._ends, ends)
        kept = without_overlaps(starts, ends)
        self._starts, self._ends = starts[kept], ends[kept]
        self._names = [names[index] for index in kept.tolist()]


def without_overlaps(starts: Addresses, ends: Addresses) -> npt.NDArray[np.intp]:
    """The indexes of the functions over which no later one lies, by address.

    A function's code is gone when another is written over any of it.
    """
    order = np.lexsort((np.arange(len(starts)), starts))
    ages, points = order.astype(np.int64), starts[order]
    first = np.searchsorted(points, points, "left")
    last = np.searchsorted(points, ends[order], "left")  # of those that begin inside, and itself
    latest_inside = _maxima(ages, first, last)
    latest_around = _spread_maxima(ages, first, last)
    kept: npt.NDArray[np.intp] = order[np.maximum(latest_inside, latest_around) <= ages]
    return kept


def _maxima(values: Ages, first: Indexes, last: Indexes) -> Ages:
    """The maximum of each values[first:last], none of them empty, by a sparse table."""
    level = _level(last - first)
    found = values[first].copy()
    table, step = values, 1
    for height in range(int(level.max()) + 1):
        rows = level == height
        found[rows] = np.maximum(table[first[rows]], table[last[rows] - step])
        table, step = np.maximum(table[: max(len(table) - step, 0)], table[step:]), step * 2
    return found


def _spread_maxima(values: Ages, first: Indexes, last: Indexes) -> Ages:
    """For each place the maximum of the values whose first:last holds it: the table backwards."""
    level = _level(last - first)
    above = np.full(len(values), -1, dtype=np.int64)
    for height in range(int(level.max()), -1, -1):
        step, rows = 1 << height, level == height
        np.maximum.at(above, first[rows], values[rows])
        np.maximum.at(above, last[rows] - step, values[rows])
        if height:
            half = step // 2
            below = above.copy()
            below[half:] = np.maximum(below[half:], above[: len(above) - half])
            above = below
    return above


def _level(lengths: Indexes) -> Indexes:
    """The exponent of the largest power of two that is not larger."""
    level: Indexes = np.frexp(lengths.astype(np.float64))[1].astype(np.intp) - 1
    return level


def _function(line: bytes) -> Function | None:
    match = _LINE.match(line)
    if match is None:
        return None
    start, size = int(match[1], 16), int(match[2], 16)
    if not 0 < size <= _LARGEST_FUNCTION or start > _LARGEST_ADDRESS:
        return None
    return Function(start, start + size, match[3][:_LONGEST_NAME])


def open_perf_map(pid: int) -> PerfMap | None:
    """The map of a process, where it sees it; only if it or root has written it."""
    own_pid = _innermost_pid(pid)
    return None if own_pid is None else _open(f"/proc/{pid}/root/tmp/perf-{own_pid}.map", pid)


def map_status(pid: int) -> os.stat_result | None:
    own_pid = _innermost_pid(pid)
    try:
        return os.stat(f"/proc/{pid}/root/tmp/perf-{own_pid}.map", follow_symlinks=False)
    except OSError:
        return None


def _open(path: str, pid: int) -> PerfMap | None:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        fd = os.open(path, flags)
    except OSError:
        return None
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and _is_trusted(status, owner):
        return PerfMap(fd)
    os.close(fd)
    return None


def _is_trusted(status: os.stat_result, owner: int) -> bool:
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (0, owner) and not writable_by_others


def _innermost_pid(pid: int) -> int | None:
    """The pid by which the process knows itself, in its own pid namespace."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        return None
    return pid
