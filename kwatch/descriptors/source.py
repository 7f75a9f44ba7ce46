# SPDX-License-Identifier: Apache-2.0
"""What the calls of a process do not tell of its descriptors, and who is asked for it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Endpoints(NamedTuple):
    """Of a socket: `TCP`, `127.0.0.1:80`, `127.0.0.1:5123`.

    The addresses of a UNIX socket are inodes, and `path` is quoted.
    """

    protocol: str
    local: str
    peer: str = ""
    path: str = ""


class Source(Protocol):
    """Answers None where it does not know."""

    def descriptor(self, pid: int, fd: int, at_ns: int) -> str | None:
        """As /proc/PID/fd/N read at this time, CLOCK_REALTIME; of -100, as /proc/PID/cwd."""

    def resolved(self, pid: int, directory: str, path: str, follow: bool) -> str | None:
        """The path without symbolic links, the last one only if `follow`.

        `directory` is empty if it is unknown.
        """

    def endpoints(self, inode: int) -> Endpoints | None:
        """Of a bound or connected socket."""

    def protocol(self, pid: int, fd: int, at_ns: int) -> str | None:
        """Of a socket that was open before: `TCP`."""

    def device(self, pid: int, path: str) -> str | None:
        """`char 1:3` if there is a device with this path."""

    def parent(self, pid: int) -> int | None:
        """The process that forked this one."""


class NoSource:
    """Knows nothing but what the calls tell: symbolic links are not resolved."""

    def descriptor(self, pid: int, fd: int, at_ns: int) -> str | None:
        return None

    def resolved(self, pid: int, directory: str, path: str, follow: bool) -> str | None:
        return joined(directory, path)

    def endpoints(self, inode: int) -> Endpoints | None:
        return None

    def protocol(self, pid: int, fd: int, at_ns: int) -> str | None:
        return None

    def device(self, pid: int, path: str) -> str | None:
        return None

    def parent(self, pid: int) -> int | None:
        return None


def joined(directory: str, path: str) -> str | None:
    """The path from the root, without `.` and `..`; None if the directory is unknown."""
    whole = path if path.startswith("/") else f"{directory}/{path}"
    if not whole.startswith("/") or (not directory and whole != path):
        return None
    parts: list[str] = []
    for part in whole.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
