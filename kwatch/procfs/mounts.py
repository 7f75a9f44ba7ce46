# SPDX-License-Identifier: Apache-2.0
"""Which files are on file systems that may never answer, told without touching the files.

A server serves such a file system: a process of any user (FUSE), or another machine. While it does
not answer, system calls that touch a file wait in the kernel, and signals do not end them.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_SERVED = frozenset(
    "9p afs beegfs ceph cifs coda gfs2 gpfs lustre nfs nfs4 ocfs2 orangefs smb3 virtiofs".split()
)
_FRESH_S = 1.0  # for so long, a device is trusted to be of the file system that was found


class Mount(NamedTuple):
    """`place` is the mount point as the process sees it, `kind` the type of the file system."""

    device: int
    place: str
    kind: str


_kinds: dict[int, tuple[float, str]] = {}


def mounts_of(pid: int) -> list[Mount]:
    """The mounts that a process sees; none if it has ended."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            return [_parsed(line) for line in file]
    except OSError:
        return []


def _parsed(line: bytes) -> Mount:
    """A line of proc_pid_mountinfo(5)."""
    before, _, after = line.partition(b" - ")
    fields = before.split()
    major, minor = fields[2].split(b":")
    return Mount(
        os.makedev(int(major), int(minor)),
        os.fsdecode(fields[4].replace(rb"\040", b" ")),
        os.fsdecode(after.split()[0]),
    )


def may_hang(pid: int, device: int, path: str) -> bool:
    """Whether a mapped file is on a file system that may not answer.

    `device` and `path` as in the mappings of the process. Only a device without a driver can be
    such a file system; its type is unknown if the process does not see its mount.
    """
    if os.major(device) or path.startswith(("/memfd:", "/SYSV", "/dev/zero")):
        return False
    kind = _kind_of(pid, device)
    return not kind or is_served(pid, kind)


def may_path_hang(pid: int, path: str) -> bool:
    """Whether a path, as the process sees it, leads to such a file system."""
    around = [each for each in mounts_of(pid) if _contains(each.place, path)]
    deepest = max(around, key=lambda each: len(each.place), default=None)
    return deepest is not None and is_served(pid, deepest.kind)


def is_served(pid: int, kind: str) -> bool:
    """Whether a server serves this type. Users may lay an overlay over their own file systems."""
    if kind == "overlay":
        return not _is_in_own_user_namespace(pid)
    return kind in _SERVED or kind.startswith("fuse")


def _kind_of(pid: int, device: int) -> str:
    now = time.monotonic()
    known = _kinds.get(device)
    if known is None or now > known[0] + _FRESH_S:
        _kinds.update((each.device, (now, each.kind)) for each in mounts_of(pid))
        known = _kinds.get(device)
    return known[1] if known is not None and now <= known[0] + _FRESH_S else ""


def _is_in_own_user_namespace(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    except OSError:
        return False


def _contains(place: str, path: str) -> bool:
    return place == "/" or path == place or path.startswith(place + "/")
