# SPDX-License-Identifier: Apache-2.0
"""Files whose file system may not answer: kwatch reads copies of them, made by a helper in time."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kwatch.procfs import file_server
from kwatch.procfs.file_server import Message, receive, serve
from kwatch.system import signals
from kwatch.system.child import become_server, reap

_TIMEOUT_S = 2.0  # of one request
_MAX_WASTED_S = 10.0  # in all requests that got no answer; then no more are made
_MAX_BYTES = 1 << 30  # of all copies
_REAP_S = 0.2
NO_ANSWER = "its file system does not answer"


class NoAnswer(OSError):
    """The file system has not answered in time."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, NO_ANSWER)


class Copy(NamedTuple):
    """`path` opens it. Empty if there is no copy: then `reason` says why."""

    path: str
    reason: str = ""


#: Device, inode and path.
_Key = tuple[int, int, str]


class Place(NamedTuple):
    """Where to attach a program: its offsets in a file, their cookies, and the process."""

    offsets: list[int]
    cookies: list[int]
    pid: int


class ServedFile(NamedTuple):
    """A mapped file whose file system may not answer. `paths` may lead to it."""

    key: _Key
    paths: tuple[str, ...]

    def copy(self) -> Copy:
        return SERVED.copy(self.key, self.paths)

    def attach(self, what: str, program: int | None, place: Place, flags: int) -> int:
        """`what`: `link`, of a program, or `event`, without. Raises OSError, also NoAnswer."""
        return SERVED.attach(self, {"what": what, **place._asdict(), "flags": flags}, program)


def _ignore(_: int) -> None:
    """Does not exclude a helper."""


class ServedFiles:
    """Any thread may call its methods. `timeout_s`: how long one request may take."""

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._wasted_s = 0.0
        self._lock = threading.Lock()
        self._helper: tuple[int, socket.socket] | None = None
        self._copies: dict[_Key, Copy] = {}
        self._hung: set[int] = set()
        self._bytes = 0
        self._on_start: Callable[[int], None] = _ignore
        self._on_end: Callable[[int], None] = _ignore

    def copy(self, key: _Key, paths: Sequence[str]) -> Copy:
        """The copy of a mapped file, made at the first call. `paths` may lead to the file."""
        with self._lock:
            known = self._copies.get(key)
            if known is None:
                known = self._copies[key] = self._copied(key, paths)
            return known

    def attach(self, file: ServedFile, request: Message, program: int | None) -> int:
        """The descriptor of probes in a file. Raises OSError, also NoAnswer."""
        device, inode, _ = file.key
        request |= {"paths": list(file.paths), "inode": inode}
        with self._lock:
            answer, fd = self._ask(device, request, program)
        if fd is None:
            raise OSError(answer["errno"], answer["error"])
        return fd

    def exclude(self, on_start: Callable[[int], None], on_end: Callable[[int], None]) -> None:
        """These are called with the pid of each helper, so that it is not traced."""
        self._on_start, self._on_end = on_start, on_end

    def close(self) -> None:
        """Ends the helper, and forgets the copies."""
        with self._lock:
            self._end()
            for copy in self._copies.values():
                if copy.path:
                    os.close(int(os.path.basename(copy.path)))
            self._copies.clear()
            self._hung.clear()
            self._bytes, self._wasted_s = 0, 0.0
            self.exclude(_ignore, _ignore)

    def _copied(self, key: _Key, paths: Sequence[str]) -> Copy:
        device, inode, _ = key
        try:
            request = {"what": "copy", "paths": list(paths), "inode": inode}
            answer, fd = self._ask(device, request)
        except OSError as error:
            return Copy("", str(error.strerror))
        if fd is None:
            return Copy("", str(answer["error"]))
        size = os.fstat(fd).st_size
        if self._bytes + size > _MAX_BYTES:
            os.close(fd)
            return Copy("", "there is no room for a copy of it")
        self._bytes += size
        return Copy(f"/proc/{os.getpid()}/fd/{fd}")

    def _ask(
        self, device: int, request: Message, program: int | None = None
    ) -> tuple[Message, int | None]:
        if device in self._hung:
            raise NoAnswer
        if self._wasted_s >= _MAX_WASTED_S:
            raise OSError(errno.ETIMEDOUT, "too many other file systems did not answer")
        sock = self._helper[1] if self._helper is not None else self._start()
        file_server.send(sock, request, program)
        if select.select([sock], [], [], self._timeout_s)[0]:
            answer, fd = receive(sock)
            if answer or fd is not None:
                return answer, fd
            self._end()
            raise OSError(0, "the helper that reads it has ended")
        self._hung.add(device)
        self._wasted_s += self._timeout_s
        self._end()
        raise NoAnswer

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with theirs:
            pid = signals.fork(signal.SIG_DFL)
            if pid == 0:
                become_server(serve, theirs.fileno(), parent)
        self._helper = pid, ours
        self._on_start(pid)
        ours.send(b"\0")
        return ours

    def _end(self) -> None:
        """A helper that waits for a file system may end much later, but holds nothing of kwatch."""
        if self._helper is not None:
            (pid, sock), self._helper = self._helper, None
            sock.close()
            os.kill(pid, signal.SIGKILL)
            self._on_end(pid)
            reap(pid, _REAP_S)


#: Of this process: the copies are shared by all who read files of targets.
SERVED = ServedFiles()
