# SPDX-License-Identifier: Apache-2.0
"""The cache directory, safe against other users."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from pathlib import Path

from kwatch.system.atomic_file import UNFINISHED, write_atomically

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def default_dir() -> Path:
    """`$XDG_CACHE_HOME/kwatch` or `~/.cache/kwatch`.

    For root, `~` is root's home, even if sudo has kept another HOME, and the variable counts only
    if root owns the directory that it names.
    """
    user = os.geteuid()
    named = os.environ.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute() and (user or _is_ours(named)):
        return Path(named, "kwatch")
    try:
        home = pwd.getpwuid(user).pw_dir
    except KeyError:
        home = os.environ.get("HOME", "/nonexistent")
    return Path(home, ".cache", "kwatch")


def _is_ours(path: str) -> bool:
    try:
        return _belongs_to_us(os.stat(path))
    except (OSError, ValueError):
        return False


def _belongs_to_us(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


class CacheDir:
    """A directory that only its owner, this user, may write to. Methods may raise OSError."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags)
        if not _belongs_to_us(os.fstat(self._fd)):
            os.close(self._fd)
            raise PermissionError(f"{path} belongs to others, or they may write to it")

    def __enter__(self) -> CacheDir:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, name: str, most: int) -> bytes:
        """Up to `most` bytes of a file; the caller passes more than the file may have."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=self._fd), "rb") as file:
            status = os.fstat(file.fileno())
            if not (stat.S_ISREG(status.st_mode) and _belongs_to_us(status)):
                raise PermissionError(f"{name} belongs to others, or they may write to it")
            return file.read(most)

    def touch(self, name: str) -> None:
        """Marks a file as just used; does nothing if that fails."""
        with contextlib.suppress(OSError):
            os.utime(name, dir_fd=self._fd, follow_symlinks=False)

    def write(self, name: str, data: bytes) -> None:
        """Writes a file atomically: another kwatch may write or read it at the same time."""
        write_atomically(name, data, 0o600, self._fd)

    def shrink(self, suffix: str, limit: int) -> None:
        """Removes the least recently used files with this suffix until `limit` bytes are left."""
        files = []
        for name in os.listdir(self._fd):
            if name.endswith((suffix, suffix + UNFINISHED)):
                status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                files.append((status.st_mtime_ns, status.st_size, name))
        excess = sum(size for _, size, _ in files) - limit
        for _, size, name in sorted(files):
            if excess <= 0:
                return
            os.unlink(name, dir_fd=self._fd)
            excess -= size
