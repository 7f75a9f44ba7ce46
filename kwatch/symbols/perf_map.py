# SPDX-License-Identifier: Apache-2.0
"""Names of JIT code, from the perf maps that runtimes write.

CPython (`-X perf`), node (`--perf-basic-prof`) and agents of JVMs append a line for each function
to `/tmp/perf-PID.map`: start and size in hexadecimal, then the name. Later lines are newer.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.procfs.mounts import may_path_hang

_LINE = re.compile(rb"(?:0x)?([0-9a-fA-F]{1,16}) (?:0x)?([0-9a-fA-F]{1,16}) ([^\r\n]+)")
_MAX_READ = 32 << 20  # bytes at a time, from the end
_MAX_FUNCTIONS = 100_000
_MAX_NAME = 512
_MAX_FUNCTION = 1 << 30
_MAX_ADDRESS = 1 << 63
_MAX_CLOCK_ERROR_S = 0.1  # the times of files and processes are rounded down

Addresses = npt.NDArray[np.uint64]
Ages = npt.NDArray[np.int64]
Indexes = npt.NDArray[np.intp]


class JitFunction(NamedTuple):
    start: int
    end: int
    name: bytes


class PerfMap:
    """The map of one process. Reading it raises nothing, whatever it contains.

    `full`: the map has more functions than are kept, and the oldest have been dropped. `started`:
    the `start_ticks` of the process.
    """

    def __init__(self, fd: int, started: int = 0) -> None:
        """Takes over `fd`."""
        self._fd = fd
        self.started = started
        self._forget()

    def close(self) -> None:
        os.close(self._fd)

    def same_file(self, status: os.stat_result) -> bool:
        own = os.fstat(self._fd)
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)

    def find(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the newest function that contains the address."""
        self._read_on()
        index = int(np.searchsorted(self._starts, np.uint64(address), "right")) - 1
        if index < 0 or address >= int(self._ends[index]):
            return None
        name = self._names[index].decode("utf-8", "surrogateescape")
        return name, address - int(self._starts[index])

    def _forget(self) -> None:
        self._done, self._rest, self.full = 0, b"", False
        self._starts = self._ends = np.empty(0, dtype=np.uint64)
        self._ages = np.empty(0, dtype=np.int64)
        self._names: list[bytes] = []

    def _read_on(self) -> None:
        size = os.fstat(self._fd).st_size
        if size < self._done:  # rewritten
            self._forget()
        if size - self._done > _MAX_READ:
            self._done, self._rest = size - _MAX_READ, b"#"  # the first line is incomplete
            self.full = True
        found = list(filter(None, map(_function, self._lines(size))))
        if found:
            self._merge(found)

    def _lines(self, size: int) -> deque[bytes]:
        """The new lines, or the last ones if they are too many."""
        last: deque[bytes] = deque(maxlen=_MAX_FUNCTIONS)
        while self._done < size:
            data = os.pread(self._fd, 1 << 20, self._done)
            if not data:
                break
            self._done += len(data)
            *lines, rest = (self._rest + data).split(b"\n")
            self._rest = rest[:4096]
            self.full |= len(last) + len(lines) > _MAX_FUNCTIONS
            last += lines
        return last

    def _merge(self, newer: list[JitFunction]) -> None:
        """Adds functions. If they are too many, keeps the newest: an old name would be wrong."""
        names = self._names + [function.name for function in newer]
        starts = np.array([function.start for function in newer], dtype=np.uint64)
        ends = np.array([function.end for function in newer], dtype=np.uint64)
        starts, ends = np.append(self._starts, starts), np.append(self._ends, ends)
        first = int(self._ages.max(initial=-1)) + 1
        ages = np.append(self._ages, np.arange(first, first + len(newer)))
        kept = without_overlaps(starts, ends)
        if len(kept) > _MAX_FUNCTIONS:
            self.full = True
            kept = kept[np.sort(np.argsort(ages[kept])[-_MAX_FUNCTIONS:])]
        self._starts, self._ends, self._ages = starts[kept], ends[kept], ages[kept]
        self._names = [names[index] for index in kept.tolist()]


def without_overlaps(starts: Addresses, ends: Addresses) -> npt.NDArray[np.intp]:
    """The indexes of the functions that no later one overlaps, by address.

    A function is gone as soon as another one is written over any part of it.
    """
    order = np.lexsort((np.arange(len(starts)), starts))
    ages, points = order.astype(np.int64), starts[order]
    first = np.searchsorted(points, points, "left")
    last = np.searchsorted(points, ends[order], "left")  # it and those that begin inside
    latest_inside = _maxima(ages, first, last)
    latest_around = _spread_maxima(ages, first, last)
    kept: npt.NDArray[np.intp] = order[np.maximum(latest_inside, latest_around) <= ages]
    return kept


def _maxima(values: Ages, first: Indexes, last: Indexes) -> Ages:
    """The maximum of each values[first:last], which is never empty, by a sparse table."""
    level = _level(last - first)
    found = values[first].copy()
    table, step = values, 1
    for height in range(int(level.max()) + 1):
        rows = level == height
        found[rows] = np.maximum(table[first[rows]], table[last[rows] - step])
        table, step = np.maximum(table[: max(len(table) - step, 0)], table[step:]), step * 2
    return found


def _spread_maxima(values: Ages, first: Indexes, last: Indexes) -> Ages:
    """For each index the maximum of the values whose first:last contains it: a reversed table."""
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
    """The logarithm to base 2, rounded down."""
    level: Indexes = np.frexp(lengths.astype(np.float64))[1].astype(np.intp) - 1
    return level


def _function(line: bytes) -> JitFunction | None:
    match = _LINE.match(line)
    if match is None:
        return None
    start, size = int(match[1], 16), int(match[2], 16)
    if not 0 < size <= _MAX_FUNCTION or start > _MAX_ADDRESS:
        return None
    return JitFunction(start, start + size, match[3][:_MAX_NAME])


def open_perf_map(pid: int) -> PerfMap | None:
    """The map of a process in its own mount namespace, if the process or root has written it.

    Containers reuse pids and directories for temporary files: a map that was last written before
    the process started belongs to an earlier process.
    """
    path = _path(pid)
    return None if path is None else _open(path, pid)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it has exited."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None


def map_status(pid: int) -> os.stat_result | None:
    path = _path(pid)
    try:
        return None if path is None else os.stat(path, follow_symlinks=False)
    except OSError:
        return None


def _path(pid: int) -> str | None:
    """None if the process has exited, or if the file system may not answer."""
    own_pid = _innermost_pid(pid)
    if own_pid is None or may_path_hang(pid, "/tmp"):
        return None
    return f"/proc/{pid}/root/tmp/perf-{own_pid}.map"


def _open(path: str, pid: int) -> PerfMap | None:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        fd = os.open(path, flags)
    except OSError:
        return None
    status, started = os.fstat(fd), start_ticks(pid)
    if started is not None and _is_trusted(status, owner) and not _is_older(status, started):
        return PerfMap(fd, started)
    os.close(fd)
    return None


def _is_trusted(status: os.stat_result, owner: int) -> bool:
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    is_theirs = status.st_uid in (0, owner) and not writable_by_others
    return stat.S_ISREG(status.st_mode) and is_theirs


def _is_older(status: os.stat_result, started: int) -> bool:
    """Whether the file was last written before the process started."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    start_s = boot + started / os.sysconf("SC_CLK_TCK")
    return status.st_mtime < start_s - _MAX_CLOCK_ERROR_S


def _innermost_pid(pid: int) -> int | None:
    """The pid of the process in its own pid namespace."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        return None
    return pid
