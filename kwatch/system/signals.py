# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP on a descriptor to poll: they end a session with its report."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType
from typing import NoReturn, Protocol

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal arrived while kwatch was starting: nothing is traced, no command is run."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}; nothing was traced")
        self.exit_code = 128 + number


class _Readable(Protocol):
    def fileno(self) -> int: ...


class Signals:
    """Installed once for the life of the process. Under nohup, SIGHUP stays ignored."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.first_at: float | None = None
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _set_actions(lambda *_: None)

    def fileno(self) -> int:
        """Readable when a signal has arrived."""
        return self._read

    def read(self) -> None:
        """Counts the signals that have arrived."""
        try:
            arrived = [n for n in os.read(self._read, 64) if n in _NUMBERS]
        except BlockingIOError:
            return
        if arrived:
            self.count += len(arrived)
            self.last = arrived[-1]
            self.first_at = self.first_at or time.monotonic()

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        self.read()
        if self.count:
            raise Interrupted(self.last)

    def wait_for(self, source: _Readable) -> None:
        """Waits until `source` is readable. Raises Interrupted if a signal arrives first."""
        poll = select.poll()
        for fd in (self._read, source.fileno()):
            poll.register(fd, select.POLLIN)
        poll.poll()
        self.check()


def end_at_once() -> None:
    """Until Signals is installed, a signal raises Interrupted at once."""
    _set_actions(_interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _set_actions(signal.SIG_IGN)  # only the first one counts
    raise Interrupted(number)


def fork(action: signal.Handlers) -> int:
    """os.fork(); the child takes this action on each signal instead of reporting it."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _set_actions(action)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return pid


def _set_actions(action: signal._HANDLER) -> None:
    for number in _NUMBERS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)
