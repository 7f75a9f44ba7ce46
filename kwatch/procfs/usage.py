# SPDX-License-Identifier: Apache-2.0
"""Reads how much memory and how many descriptors a process uses."""

from __future__ import annotations

import os

from kwatch.model.usage import Usage


def read_usage(pid: int) -> Usage | None:
    """None if the process has ended or has no address space, such as a zombie.

    The fields of /proc/PID/status cost little, unlike smaps: see proc_pid_status(5). The kernel
    may be off by some pages for each thread.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return None
    sizes = {name: _bytes(value) for name, _, value in (line.partition(b":") for line in lines)}
    if b"RssAnon" not in sizes:
        return None
    anonymous = sizes[b"RssAnon"] + sizes.get(b"VmSwap", 0)
    return Usage(anonymous, sizes.get(b"RssShmem", 0), _descriptors(pid))


def _bytes(value: bytes) -> int:
    """The bytes of a value in kB; 0 for a value of another kind."""
    size, _, unit = value.strip().partition(b" ")
    return int(size) * 1024 if unit == b"kB" else 0


def _descriptors(pid: int) -> int | None:
    """The size of the directory is their number since Linux 6.2 (commit f1f1f2569901)."""
    path = f"/proc/{pid}/fd"
    try:
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return None
