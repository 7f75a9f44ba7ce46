# SPDX-License-Identifier: Apache-2.0
"""Asks the running system about descriptors.

It is read some time after a call. What it says is left out if a call may have changed the
descriptor between the two.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kwatch.descriptors.changes import Changes
from kwatch.descriptors.descriptors import Open
from kwatch.descriptors.file import AT_FDCWD
from kwatch.descriptors.readings import Reading, Readings
from kwatch.descriptors.source import Endpoints, joined
from kwatch.kernel.openat2 import Resolve, openat2
from kwatch.procfs.mounts import is_served, mounts_of

_CLOEXEC = 0o2000000
_ROOT = "/"


class LiveSource:
    """`parent`: the process that forked another one, as the session knows; 0 if it does not."""

    def __init__(self, parent: Callable[[int], int]) -> None:
        self._parent = parent
        self._readings = Readings()
        self._changes = Changes()
        self._root: tuple[int, _Root] | None = None
        self._may_wait: bool | None = None

    def use(self, readings: Readings, changes: Changes) -> None:
        """For what is shown next. `changes`: all since then, until the time of the readings."""
        self._may_wait = None
        self._leave_root()
        self._readings, self._changes = readings, changes

    def descriptor(self, pid: int, fd: int, at_ns: int) -> str | None:
        found = self._reading(pid, fd, at_ns)
        return found.text if found is not None else None

    def protocol(self, pid: int, fd: int, at_ns: int) -> str | None:
        found = self._reading(pid, fd, at_ns)
        return found.protocol if found is not None else None

    def _reading(self, pid: int, fd: int, at_ns: int) -> Reading | None:
        found = self._readings.found.get((pid, fd))
        if found is None:
            return None
        is_past = self._changes.lies_between(pid, fd, at_ns, self._readings.at_ns)
        return None if is_past else found

    def resolved(self, pid: int, directory: str, path: str, follow: bool) -> str | None:
        whole = joined_as_seen_by(pid, directory, path)
        if whole is None:
            return None
        root = self._root_of(pid)
        found = root.resolve(whole, follow)
        if found is not None:
            return found
        above, _, name = whole.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            return joined("", whole)
        base = root.resolve(above, True) if above else _ROOT
        return joined(base or above or _ROOT, name)

    def _root_of(self, pid: int) -> _Root:
        """Opened once for calls of one process that follow each other."""
        if self._root is None or self._root[0] != pid:
            self._leave_root()
            self._root = pid, _Root(pid, self._can_wait)
        return self._root[1]

    def _leave_root(self) -> None:
        if self._root is not None:
            self._root[1].close()
            self._root = None

    def _can_wait(self) -> bool:
        """Whether every file system answers at once."""
        if self._may_wait is None:
            self._may_wait = not any(is_served(1, each.kind) for each in mounts_of(1))
        return self._may_wait

    def endpoints(self, inode: int) -> Endpoints | None:
        return self._readings.sockets.endpoints(inode)

    def device(self, pid: int, path: str) -> str | None:
        for root in (f"/proc/{pid}/root", ""):
            with suppress(OSError, ValueError):
                found = os.stat(root + path)
                kind = _DEVICES.get(stat.S_IFMT(found.st_mode))
                number = found.st_rdev
                return f"{kind} {os.major(number)}:{os.minor(number)}" if kind else None
        return None

    def parent(self, pid: int) -> int | None:
        return self._parent(pid) or None


_DEVICES = {stat.S_IFCHR: "char", stat.S_IFBLK: "block"}


def joined_as_seen_by(pid: int, directory: str, path: str) -> str | None:
    """The path from the root as it is; /proc/self is that of the process, not kwatch's."""
    whole = path if path.startswith("/") else f"{directory}/{path}"
    if not whole.startswith("/"):
        return None
    if whole.startswith("/proc/thread-self"):
        return None
    if whole == "/proc/self" or whole.startswith("/proc/self/"):
        return f"/proc/{pid}{whole[len('/proc/self') :]}"
    return whole


class _Root:
    """The root directory of a process, or kwatch's if the process has ended.

    What is asked for was just used, and is in the kernel's memory. The rest is looked up only if
    `can_wait`: a file system may not answer.
    """

    def __init__(self, pid: int, can_wait: Callable[[], bool]) -> None:
        self._can_wait = can_wait
        try:
            self._fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            self._fd = os.open(_ROOT, os.O_PATH | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def resolve(self, path: str, follow: bool) -> str | None:
        """None if there is no such file, or it is not known without waiting."""
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        name = os.fsencode(path)
        try:
            return self._opened(name, flags, Resolve.IN_ROOT | Resolve.CACHED)
        except OSError as error:  # also a symbolic link whose time of access is to be updated
            if error.errno not in (errno.EAGAIN, errno.EINVAL) or not self._can_wait():
                return None
        with suppress(OSError):
            return self._opened(name, flags, Resolve.IN_ROOT)
        return None

    def _opened(self, name: bytes, flags: int, how: Resolve) -> str:
        fd = openat2(self._fd, name, flags, how)
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


def open_descriptors(pid: int) -> dict[int, Open]:
    """Those of a running process, with its working directory; none if it has ended."""
    found: dict[int, Open] = {}
    directory = f"/proc/{pid}/fd"
    with suppress(OSError):
        found[AT_FDCWD] = Open(os.readlink(f"/proc/{pid}/cwd"), True)
        for name in os.listdir(directory):
            with suppress(OSError):
                text = os.readlink(f"{directory}/{name}")
                found[int(name)] = Open(text, not _is_closed_by_exec(pid, name))
    return found


def _is_closed_by_exec(pid: int, fd: str) -> bool:
    for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_bytes().splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & _CLOEXEC > 0
    return True
