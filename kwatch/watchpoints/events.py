# SPDX-License-Identifier: Apache-2.0
"""The perf events of one watchpoint: one for each thread of a process, or one for each CPU."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Protocol

from kwatch.errors import KwatchError
from kwatch.kernel import breakpoints, perf
from kwatch.kernel.breakpoints import Breakpoint
from kwatch.kernel.cpus import online_cpus
from kwatch.kernel.privileges import refused

MAX_THREADS = 300  # with more, one event for each CPU takes fewer descriptors and less time
_TRIES = 5
_TAKEN_S = 1.0  # the registers of a tracer that was killed are free again before that
_RETRY_S = 0.01


class WatchEvents(Protocol):
    """Each method may raise OSError."""

    who: str

    def move(self, watched: Breakpoint) -> None: ...

    def disable(self) -> None: ...

    def count(self) -> int | None: ...

    def close(self) -> None: ...


class _Busy(Exception):
    """Threads began while the events were opened: perhaps one has none."""


class _Events:
    """Closing the descriptors removes the watchpoint; the kernel does so if kwatch ends."""

    def __init__(self, fds: list[int], flags: int, who: str) -> None:
        self._fds = fds
        self._flags = flags
        self.who = who

    def move(self, watched: Breakpoint) -> None:
        for fd in self._fds:
            breakpoints.move_breakpoint(fd, watched, self._flags)

    def disable(self) -> None:
        for fd in self._fds:
            breakpoints.disable(fd)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


class ThreadEvents(_Events):
    """One event for each thread of a process; threads that begin later inherit one."""

    def count(self) -> int | None:
        """The hits of all threads, as the kernel counts them."""
        return sum(map(breakpoints.count, self._fds))


class CpuEvents(_Events):
    """One event for each CPU. The program ignores other processes, which pay all the same."""

    def count(self) -> int | None:
        """Unknown: the kernel counts the hits of all processes together."""
        return None


def open_events(pid: int, watched: Breakpoint, program: int) -> WatchEvents:
    """Opens the events, disabled, with the program.

    Raises KwatchError, or ProcessLookupError if the process has ended.
    A tracer that was killed a moment ago may still have the registers: waits for them.
    """
    until = time.monotonic() + _TAKEN_S
    while True:
        try:
            return _open(pid, watched, program)
        except ProcessLookupError:
            raise
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() >= until:
                raise refused_watchpoint(error) from error
            time.sleep(_RETRY_S)


def _open(pid: int, watched: Breakpoint, program: int) -> WatchEvents:
    try:
        return _of_threads(pid, watched, program)
    except _Busy:
        pass
    except OSError as error:  # EINVAL: the kernel is older than the flags
        if error.errno != errno.EINVAL or not _is_accepted(watched):
            raise
    return _of_cpus(watched, program)


def _of_threads(pid: int, watched: Breakpoint, program: int) -> ThreadEvents:
    """Opens them again when threads began meanwhile: whether those inherited one is unknown."""
    for _ in range(_TRIES):
        threads = thread_ids(pid)
        if len(threads) > MAX_THREADS:
            raise _Busy
        with ExitStack() as stack:
            fds = _opened(((tid, -1) for tid in threads), watched, program, breakpoints.OF_PROCESS)
            events = ThreadEvents(fds, breakpoints.OF_PROCESS, "thread")
            stack.callback(events.close)
            has_any = bool(fds)
            if has_any and threads.issuperset(thread_ids(pid)):
                stack.pop_all()
                return events
    if not has_any:
        raise ProcessLookupError(errno.ESRCH, "the process has ended")
    raise _Busy


def _of_cpus(watched: Breakpoint, program: int) -> CpuEvents:
    places = ((perf.EVERY_PROCESS, cpu) for cpu in online_cpus())
    return CpuEvents(_opened(places, watched, program, 0), 0, "CPU")


def _opened(
    places: Iterable[tuple[int, int]], watched: Breakpoint, program: int, flags: int
) -> list[int]:
    """An event at each place, a thread or a CPU; a thread that has ended gets none."""
    with ExitStack() as stack:
        fds = []
        for pid, cpu in places:
            try:
                fd = breakpoints.open_breakpoint(watched, pid, cpu, flags)
            except ProcessLookupError:
                continue
            fds.append(perf.with_program(fd, program))
            stack.callback(os.close, fd)
        stack.pop_all()
        return fds


def thread_ids(pid: int) -> set[int]:
    """The threads of a process; none if it has ended."""
    try:
        return set(map(int, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        return set()


def _is_accepted(watched: Breakpoint) -> bool:
    """Whether the kernel accepts the breakpoint on this thread: it does not know the flags then."""
    try:
        os.close(breakpoints.open_breakpoint(watched, 0))
    except OSError:
        return False
    return True


def refused_watchpoint(error: OSError) -> KwatchError:
    """The error for a watchpoint that the kernel does not open."""
    if error.errno == errno.ENOSPC:
        return KwatchError(
            "no hardware watchpoint is free: the processor has few (4 on x86-64), and others use "
            "them all",
            "end debuggers, perf and other tracers that have some: try `pgrep -a 'gdb|lldb|perf'`",
        )
    if error.errno in (errno.EOPNOTSUPP, errno.ENODEV, errno.ENOENT):
        return KwatchError(
            "this machine has no hardware watchpoints; many virtual machines have none",
            "run kwatch on a machine that has them",
        )
    return refused("a watchpoint cannot be set", error)
