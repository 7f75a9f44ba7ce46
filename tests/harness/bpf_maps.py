# SPDX-License-Identifier: Apache-2.0
"""The BPF maps that another process holds open."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kwatch.kernel.bpf import MAP_TYPE_ARRAY, Map

_HASH = 1
_PIDFD_GETFD = 438  # the same number on every architecture


@contextmanager
def hash_map(pid: int, key_size: int, value_size: int = 0) -> Iterator[Map]:
    """The hash map with these sizes (0: any), of which the process has one."""
    wanted = {"map_type": _HASH, "key_size": key_size}
    if value_size:
        wanted["value_size"] = value_size
    with _map(pid, wanted) as found:
        yield found


@contextmanager
def array_map(pid: int, entries: int) -> Iterator[Map]:
    """The array with this many elements, of which the process has one."""
    with _map(pid, {"map_type": MAP_TYPE_ARRAY, "max_entries": entries}) as found:
        yield found


@contextmanager
def _map(pid: int, wanted: dict[str, int]) -> Iterator[Map]:
    found = {}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        text = file.read_text()
        lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        info = {name: value.strip() for name, value in lines}
        if "map_id" in info and all(int(info[name], 0) == value for name, value in wanted.items()):
            sizes = (int(info[name]) for name in ("key_size", "value_size", "max_entries"))
            found[int(file.name)] = tuple(sizes)
    ((number, sizes),) = found.items()
    pidfd = os.pidfd_open(pid)
    fd = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, number, 0)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        yield Map(fd, *sizes)
    finally:
        os.close(fd)
        os.close(pidfd)
