# SPDX-License-Identifier: Apache-2.0
"""The client of the holder process: starts it, asks it to hold memory, and survives its end."""

from __future__ import annotations

import errno
import os
import select
import socket
from array import array
from collections.abc import Callable

from kwatch.errors import KwatchError
from kwatch.reach.holder_process import ANSWER, MAX_REASON, REQUEST, What, serve
from kwatch.system.child import end_server, start_server
from kwatch.wire.maps import MAX_HELD

_START_S = 20.0  # until a new process is ready, on a busy machine
_ANSWER_S = 5.0
_REASONS = {
    errno.EUSERS: f"the memory of {MAX_HELD} processes is held already",
    errno.ESRCH: "the process has ended",
    errno.ETIMEDOUT: "its memory is locked by a call that does not end",
}


class NotHeld(KwatchError):
    """The memory cannot be held; its last scan is then the last one while it lives."""


class Vanished(NotHeld):
    """The process has ended, or has made an exec meanwhile."""


def _ignore(_: int) -> None:
    """Does not exclude the process."""


class Holder:
    """The process starts with `start`. `starts` counts processes: a new one holds nothing.

    `on_start` is called with the pid of each before its exec, `on_end` before its pid is free.
    """

    def __init__(
        self,
        on_start: Callable[[int], None] = _ignore,
        on_end: Callable[[int], None] = _ignore,
    ) -> None:
        self.starts = 0
        self._on_start = on_start
        self._on_end = on_end
        self._pid = 0
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._refused: NotHeld | None = None  # for good

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._pid

    @property
    def is_alive(self) -> bool:
        """Whether it still holds what it held. It ends when it is frozen, stopped or traced."""
        if self._socket is None:
            return False
        return not _polled(self._socket, 0, 0.0)  # POLLHUP

    def start(self) -> None:
        """Starts the process if there is none; does not wait for it. Raises NotHeld."""
        if self._refused is not None:
            raise self._refused
        if self.is_alive:
            return
        self.close()
        try:
            self._pid, self._socket = start_server(serve)
        except OSError as error:
            raise NotHeld(f"the holder cannot be started: {error.strerror}") from error
        self._is_ready = False
        self.starts += 1
        self._on_start(self._pid)
        self._socket.send(b"\0")

    def hold(self, mem: int, address: int) -> int:
        """Holds the memory that a /proc/PID/mem reads, with something readable at `address`.

        Returns its place, for `release`. Raises NotHeld.
        """
        self.start()
        self._await_ready()
        place: int
        (place,) = ANSWER.unpack(self._ask(REQUEST.pack(What.HOLD, 0, address), mem))
        if place >= 0:
            return place
        if -place in (errno.ESRCH, errno.EIO):
            raise Vanished(_REASONS[errno.ESRCH])
        raise NotHeld(_REASONS.get(-place, os.strerror(-place)))

    def release(self, place: int) -> None:
        """Frees the memory, as far as it depends on the holder. Does not wait."""
        if self._socket is not None and self.is_alive:
            self._socket.send(REQUEST.pack(What.RELEASE, place, 0))

    def close(self) -> None:
        """Releases all, and ends the process."""
        if self._socket is not None:
            sock, self._socket = self._socket, None
            end_server(self._pid, sock, self._on_end)
            self._pid = 0

    def _await_ready(self) -> None:
        if self._is_ready:
            return
        reason, _, cure = self._received(_START_S, MAX_REASON).decode().partition("\0")
        self._is_ready = True
        if reason:
            self.close()
            self._refused = NotHeld(reason, cure)
            raise self._refused

    def _ask(self, request: bytes, mem: int) -> bytes:
        if self._socket is None:
            raise NotHeld("the holder has ended")
        files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [mem]))]
        try:
            self._socket.sendmsg([request], files)
        except OSError as error:
            raise NotHeld("the holder has ended") from error
        return self._received(_ANSWER_S, ANSWER.size)

    def _received(self, seconds: float, size: int) -> bytes:
        """A message. Ends the process if none comes in time: its answer would come too late."""
        why = "the holder did not answer in time"
        if self._socket is not None and _polled(self._socket, select.POLLIN, seconds):
            if message := self._socket.recv(size):
                return message
            why = "the holder has ended"
        self.close()
        raise NotHeld(why)


def _polled(sock: socket.socket, events: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(seconds * 1000))
