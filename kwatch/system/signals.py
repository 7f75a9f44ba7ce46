# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP on a descriptor to poll: they end a session with its report."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import time
from collections.abc import Iterable
from types import FrameType
from typing import NamedTuple, NoReturn, Protocol

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Python ignores these itself, so nobody can tell whether kwatch was given them ignored.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
#: What kwatch was given ignored, of the signals whose actions it changes; and given blocked.
_GIVEN_IGNORED = frozenset(
    number
    for number in (*_NUMBERS, signal.SIGCHLD, signal.SIGUSR1)
    if signal.getsignal(number) is signal.SIG_IGN
)
_GIVEN_MASK = signal.pthread_sigmask(signal.SIG_BLOCK, ())

_SIGNALFD_INFO = struct.Struct("IiiI112x")  # number, errno, code, pid: struct signalfd_siginfo
_SIGSET_SIZE = 128
_PATIENCE_S = 2.0  # a reader that makes no room for so long after a signal gets no report


class Interrupted(BaseException):
    """A signal arrived while the command was starting, or one that writes no report then ran."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class _Readable(Protocol):
    def fileno(self) -> int: ...


class Arrived(NamedTuple):
    """A signal: its number, `si_code` and the pid of its sender, see sigaction(2)."""

    number: int
    code: int
    sender: int

    @property
    def is_for_group(self) -> bool:
        """Whether the whole process group has it: from the terminal, or at the shell's hangup.

        If kwatch leads its session, the hangup of the terminal is for kwatch alone:
        tty_signal_session_leader() in linux drivers/tty/tty_jobctrl.c.
        """
        leader = os.getsid(0)
        if self.number == signal.SIGHUP and leader == os.getpid():
            return False
        return self.code > 0 or (self.number == signal.SIGHUP and self.sender == leader)


class Signals:
    """Installed once for the life of the process. Under nohup, SIGHUP stays ignored."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.first_at: float | None = None
        self._arrived: list[Arrived] = []
        wanted = [n for n in _NUMBERS if n != signal.SIGHUP or n not in _GIVEN_IGNORED]
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        self._fd = signal_descriptor(wanted)

    def fileno(self) -> int:
        """Readable when a signal has arrived."""
        return self._fd

    def read(self) -> None:
        """Counts the signals that have arrived."""
        try:
            data = os.read(self._fd, 16 * _SIGNALFD_INFO.size)
        except BlockingIOError:
            return
        for number, _, code, sender in _SIGNALFD_INFO.iter_unpack(data):
            self._arrived.append(Arrived(number, code, sender))
            self.count += 1
            self.last = number
            self.first_at = self.first_at or time.monotonic()

    def take(self) -> list[Arrived]:
        """The signals that have been read since the last call, for a launched command."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        self.read()
        if self.count:
            raise Interrupted(self.last)

    def wait_for(self, source: _Readable) -> None:
        """Waits until `source` is readable. Raises Interrupted if a signal arrives first."""
        poll = select.poll()
        for fd in (self._fd, source.fileno()):
            poll.register(fd, select.POLLIN)
        poll.poll()
        self.check()

    def wait(self, seconds: float) -> None:
        """Waits that long. Raises Interrupted if a signal arrives first."""
        select.select([self._fd], [], [], seconds)
        self.check()

    def wait_for_room(self, fd: int) -> bool:
        """Waits until `fd` can be written.

        False if it cannot for a while after a signal, and at once after the second.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(fd, select.POLLOUT)
        while True:
            self.read()
            seconds = _PATIENCE_S if self.count == 1 else 0
            ready = dict(poll.poll(seconds * 1000 if self.count else None))
            if fd in ready:
                return True
            if not ready:
                return False


def signal_descriptor(numbers: Iterable[int]) -> int:
    """A descriptor that is readable when one of these signals, which are blocked, has arrived."""
    wanted = bytearray(_SIGSET_SIZE)
    for number in numbers:
        wanted[(number - 1) // 8] |= 1 << (number - 1) % 8
    libc = ctypes.CDLL(None, use_errno=True)
    given = ctypes.create_string_buffer(bytes(wanted), _SIGSET_SIZE)
    fd = int(libc.signalfd(-1, given, os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def end_at_once() -> None:
    """Until Signals is installed, a signal raises Interrupted at once.

    A parent that ignores SIGCHLD would make the kernel reap kwatch's children before kwatch does.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _set_actions(_interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _set_actions(signal.SIG_IGN)  # only the first one counts
    raise Interrupted(number)


def restore_given() -> None:
    """Gives a process that is to run another program the actions that kwatch was given."""
    for number in (*_NUMBERS, signal.SIGCHLD, signal.SIGUSR1, *_IGNORED_BY_PYTHON):
        signal.signal(number, signal.SIG_IGN if number in _GIVEN_IGNORED else signal.SIG_DFL)


def fork(action: signal.Handlers) -> int:
    """os.fork(); the child takes this action on each signal instead of reporting it.

    It ignores SIGUSR1, which sets a mark in kwatch: `pkill` may send it to kwatch's helpers too.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            _set_actions(action)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous if pid else _GIVEN_MASK)
    return pid


def _set_actions(action: signal._HANDLER) -> None:
    for number in _NUMBERS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)
