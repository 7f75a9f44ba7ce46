# SPDX-License-Identifier: Apache-2.0
"""Files whose file system may not answer: kwatch reads copies of them, made by a helper in time."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kwatch.procfs.file_server import serve
from kwatch.system.child import end_server, start_server
from kwatch.system.helper_wait import has_answer
from kwatch.system.messages import Closed, Message, receive, send

_IDLE_S = 2.0  # a helper that sleeps for so long gets no answer from the file system
_MAX_REQUEST_S = 20.0  # however much it does
_START_S = 20.0  # sleeping, until it can serve
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
    """Any thread may call its methods. `idle_s`: how long the helper may sleep in a request."""

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        self._idle_s = idle_s
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
        try:
            pid, sock = self._helper if self._helper is not None else self._start()
            began = time.monotonic()
            send(sock, request, [] if program is None else [program])
            if has_answer(pid, sock, self._idle_s, _MAX_REQUEST_S):
                answer, files = receive(sock)
                return answer, next(iter(files), None)
        except Closed as error:
            self._end()
            raise OSError(0, "the helper that reads it has ended") from error
        self._hung.add(device)
        self._wasted_s += time.monotonic() - began
        self._end()
        raise NoAnswer

    def _start(self) -> tuple[int, socket.socket]:
        """Waits until the helper can serve, so that its start is not taken for a hung file."""
        pid, sock = self._helper = start_server(serve)
        self._on_start(pid)
        sock.send(b"\0")
        if not has_answer(pid, sock, _START_S):
            self._end()
            raise OSError(errno.ETIMEDOUT, "the helper that reads it has not started")
        receive(sock)
        return pid, sock

    def _end(self) -> None:
        """A helper that waits for a file system may end much later, but holds nothing of kwatch."""
        if self._helper is not None:
            (pid, sock), self._helper = self._helper, None
            end_server(pid, sock, self._on_end, _REAP_S)


#: Of this process: the copies are shared by all who read files of targets.
SERVED = ServedFiles()
