# SPDX-License-Identifier: Apache-2.0
"""The BPF maps that another process holds open."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kwatch.kernel.bpf import Map

_HASH = 1
_PIDFD_GETFD = 438  # the same number on every architecture


@contextmanager
def hash_map(pid: int, key_size: int, value_size: int) -> Iterator[Map]:
    """The hash map with these sizes, of which the process has one."""
    wanted = {"map_type": _HASH, "key_size": key_size, "value_size": value_size}
    found = {}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        lines = (line.split(":", 1) for line in file.read_text().splitlines())
        info = {name: value.strip() for name, value in lines}
        if "map_id" in info and all(int(info[name]) == value for name, value in wanted.items()):
            found[int(file.name)] = int(info["max_entries"])
    ((number, entries),) = found.items()
    pidfd = os.pidfd_open(pid)
    fd = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, number, 0)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        yield Map(fd, key_size, value_size, entries)
    finally:
        os.close(fd)
        os.close(pidfd)
