# SPDX-License-Identifier: Apache-2.0
"""The client of the symbol reader process: starts it, sends requests, and survives its crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kwatch.errors import KwatchError
from kwatch.symbols import reader_protocol
from kwatch.symbols.dwarf.libdw import Location
from kwatch.symbols.reader_process import serve
from kwatch.system.child import reap, start_server
from kwatch.system.helper_wait import has_answer

#: Sleeping, in one request; the process itself limits its CPU time (reader_process.CPU_LIMIT_S).
_IDLE_S = 20.0


def _ignore(_: int) -> None:
    """Drops a notification."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`partial`: a server may still deliver debug information; ask again later."""

    locations: list[Location]
    partial: bool


class Damaged(KwatchError):
    """libdw cannot read the file, or the process died while reading it."""


class NotStarted(KwatchError):
    """The process cannot be started now: memory or descriptors have run out."""


class Reader:
    """`starts` counts processes; `resident` is the process's resident bytes at the last answer.

    `on_start` is called with the pid of each process before its exec, `on_end` before its pid can
    be reused.
    """

    def __init__(
        self,
        on_start: Callable[[int], None] = _ignore,
        on_end: Callable[[int], None] = _ignore,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._on_start = on_start
        self._on_end = on_end
        self._idle_s = idle_s
        self._pid = 0
        self._lock = threading.Lock()  # of the pid, which may be reused once the process is reaped
        self._given_up = False
        self._socket: socket.socket | None = None
        self._opened: set[int] = set()
        self.starts = 0
        self.resident = 0

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._pid

    def start(self) -> None:
        """Starts the process if there is none; does not wait for it. Raises NotStarted."""
        if self._socket is not None:
            return
        if self._given_up:
            raise NotStarted("debug information is not read any more")
        try:
            self._pid, self._socket = start_server(serve, socket.SOCK_STREAM)
        except OSError as error:
            raise NotStarted(f"the symbol reader cannot be started: {error.strerror}") from error
        self._socket.settimeout(self._idle_s)
        self._opened.clear()
        self.starts += 1
        self._on_start(self._pid)
        self._socket.send(b"\0")

    def locate(
        self, number: int, fd: int, path: str, root: str, addresses: Sequence[int]
    ) -> Answer:
        """The locations of virtual addresses in a file. Raises Damaged, NotStarted.

        `number` identifies the file, `path` is its name. `root`: a directory with more debug files
        in the usual subdirectories, or empty.
        """
        for attempt in (1, 2):
            self.start()
            try:
                return self._ask(number, fd, path, root, addresses)
            except TimeoutError:
                self.stop()
                raise Damaged(f"{path}: reading its debug information takes too long") from None
            except reader_protocol.Closed:
                status = self._reap()
                if self._given_up:
                    continue  # `start` raises NotStarted
                if attempt == 2 or not _ended_by_others(status):
                    raise Damaged(f"{path}: {_cause(status)}") from None
        raise AssertionError("the second attempt returns or raises")

    def forget(self, number: int) -> None:
        if self._socket is not None and number in self._opened:
            self._opened.discard(number)
            with contextlib.suppress(reader_protocol.Closed, TimeoutError):
                reader_protocol.send(self._socket, {"close": number})

    def give_up(self) -> None:
        """Ends the process for good, even during `locate`. Any thread may call it."""
        self._given_up = True
        with self._lock:
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)

    def stop(self) -> None:
        if self._socket is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._reap()

    def _ask(self, number: int, fd: int, path: str, root: str, addresses: Sequence[int]) -> Answer:
        sock = self._socket
        if sock is None:
            raise reader_protocol.Closed
        if number not in self._opened:
            reader_protocol.send(sock, {"open": number, "path": path, "root": root}, fd)
            self._opened.add(number)
        reader_protocol.send(sock, {"file": number, "addresses": list(addresses)})
        if not has_answer(self._pid, sock, self._idle_s):
            raise TimeoutError
        answer, _ = reader_protocol.receive(sock)
        if "error" in answer:
            raise Damaged(answer["error"])
        self.resident = answer["resident"]
        return Answer([reader_protocol.decode(each) for each in answer["found"]], answer["partial"])

    def _reap(self) -> int:
        """Waits for a process that has ended or is ending, and returns its wait status."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._opened.clear()
        with self._lock:
            pid, self._pid = self._pid, 0
        self._on_end(pid)
        status = reap(pid)
        return signal.SIGKILL if status is None else status


def _ended_by_others(status: int) -> bool:
    """Whether no file is to blame: the process gave its memory back, or was killed."""
    return status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGPROF:
            return "reading its debug information takes too long"
        return f"its debug information ends the symbol reader ({signal.Signals(number).name})"
    return "its debug information ends the symbol reader"
