# SPDX-License-Identifier: Apache-2.0
"""The files of a recording, of which others may own nothing.

    DIR/TABLE/host=HOST/day=YYYY-MM-DD/RUN-000001.parquet    a table of a segment
    DIR/segments/host=HOST/day=YYYY-MM-DD/RUN-000001.json    what belongs to it: its manifest

RUN is when the recorder began, and its pid. The manifest is written last: a segment without one is
not complete. Files that are being written have names that begin with a dot and end with .tmp.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from kwatch.errors import KwatchError

SEGMENTS = "segments"
UNFINISHED = ".tmp"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Store:
    """A recording's directory, to write into. Names in it are relative."""

    def __init__(self, path: str) -> None:
        """Makes the directory if it is not there. Raises KwatchError."""
        self.path = path
        self._owner = _owner()
        try:
            self._folder = self._opened(path)
        except OSError as error:
            raise KwatchError(
                f"{path or repr(path)} cannot be the directory of a recording: {error.strerror}",
                "name a directory that is not there yet, in one that is",
            ) from error
        try:
            self._require_recording()
        except BaseException:
            self.close()
            raise

    def _opened(self, path: str) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            os.chown(path, *self._owner, follow_symlinks=False)
        return os.open(path, _FOLDER)

    def _require_recording(self) -> None:
        """Nobody else may be able to change what is in it."""
        status = os.fstat(self._folder)
        if status.st_uid not in (0, self._owner[0]) or stat.S_IMODE(status.st_mode) & 0o022:
            raise KwatchError(
                f"{self.path} can be changed by others",
                "name a directory that is yours and that nobody else may write to",
            )
        names = [name for name in os.listdir(self._folder) if not name.startswith(".")]
        if names and SEGMENTS not in names:
            raise KwatchError(
                f"{self.path} has files in it and is no recording", "name another directory"
            )

    def create(self, name: str) -> int:
        """A new file, not yet under its name: see `commit`. Raises OSError."""
        folder = self._folder_of(name)
        try:
            fd = os.open(_unfinished(name), _NEW_FILE, 0o600, dir_fd=folder)
            os.fchown(fd, *self._owner)
        finally:
            os.close(folder)
        return fd

    def commit(self, name: str) -> None:
        """Gives a written file its name. Raises OSError."""
        folder = self._folder_of(name)
        try:
            base = PurePosixPath(name).name
            os.rename(_unfinished(name), base, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self, name: str) -> None:
        """Removes a file that was not committed. Raises OSError."""
        folder = self._folder_of(name)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_unfinished(name), dir_fd=folder)
        finally:
            os.close(folder)

    def remove(self, name: str) -> None:
        """Removes a committed file, and the folders that it leaves empty. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            folder = self._folder_of(name)
            try:
                os.unlink(PurePosixPath(name).name, dir_fd=folder)
            finally:
                os.close(folder)
        with contextlib.suppress(OSError):  # others are in it
            os.rmdir(str(PurePosixPath(name).parent), dir_fd=self._folder)

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        folder = self._folder_of(name)
        try:
            base = PurePosixPath(name).name
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(base, flags, dir_fd=folder), "rb") as file:
                return file.read()
        finally:
            os.close(folder)

    def _folder_of(self, name: str) -> int:
        """The folder of a file, which is made if it is not there."""
        at = os.dup(self._folder)
        for part in PurePosixPath(name).parts[:-1]:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=at)
                    os.chown(part, *self._owner, dir_fd=at, follow_symlinks=False)
                below = os.open(part, _FOLDER, dir_fd=at)
            finally:
                os.close(at)
            at = below
        return at

    def close(self) -> None:
        os.close(self._folder)


def manifests(path: str) -> Iterator[str]:
    """The manifests below a directory, in the order of hosts, runs and segments."""
    top = os.path.join(path, SEGMENTS)
    found = [
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, names in os.walk(top)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    ]
    yield from sorted(found, key=lambda name: (_host(name), PurePosixPath(name).name))


def unfinished(path: str) -> list[str]:
    """Files below a directory that a recorder has not finished."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, names in os.walk(path)
        for name in names
        if name.startswith(".") and name.endswith(UNFINISHED)
    )


def _host(name: str) -> str:
    return PurePosixPath(name).parts[1]


def _unfinished(name: str) -> str:
    return f".{PurePosixPath(name).name}{UNFINISHED}"


def _owner() -> tuple[int, int]:
    """The user who ran sudo, or this one."""
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        with contextlib.suppress(ValueError):
            return int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", -1))
    return os.geteuid(), os.getegid()
