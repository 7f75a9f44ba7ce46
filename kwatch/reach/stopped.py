# SPDX-License-Identifier: Apache-2.0
"""Stops a process while a block of code runs, if the user asks for it.

A thread of kwatch seizes all threads of the process. When that thread ends, for whatever reason,
the kernel lets them continue, and passes on a signal that one of them was about to take.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from kwatch.errors import KwatchError
from kwatch.kernel import ptrace
from kwatch.kernel.registers import registers
from kwatch.procfs.current_call import has_ended, thread_ids, thread_state
from kwatch.reach.thread_state import ThreadState, state_of
from kwatch.reach.threads import read_threads

_MAX_SECONDS = 5.0
#: A thread in an uninterruptible wait is not waited for longer: it does not run user code when the
#: wait ends, but stops.
_MAX_SECONDS_IN_KERNEL = 0.2
_POLL_SECONDS = 0.0002

_WORD = 8
_OTHERWISE = "leave out --stop"


@dataclass(slots=True)
class Stop:
    """The threads of a stopped process. `seconds`: for how long it was, once it continues."""

    threads: list[ThreadState] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def stopped(pid: int) -> Iterator[Stop]:
    """Stops all threads, also those that appear meanwhile; they continue at the end.

    Some calls of the process can return EINTR. A wait for children by kwatch's other threads would
    see the stops of a process that is kwatch's child. Raises KwatchError if the process has ended,
    is traced by another process, or is stopped by a signal.
    """
    _refuse(pid)
    stop, tracer = Stop(), _Tracer(pid)
    began = time.monotonic()
    tracer.start()
    try:
        stop.threads = tracer.threads()
        yield stop
    finally:
        tracer.release()
        stop.seconds = time.monotonic() - began


def _refuse(pid: int) -> None:
    for tid in thread_ids(pid):
        tracer = _number(f"/proc/{pid}/task/{tid}/status", "TracerPid")  # that of a thread
        if tracer:
            process = _number(f"/proc/{tracer}/status", "Tgid") or tracer
            raise KwatchError(
                f"process {pid} cannot be stopped: process {process} traces it",
                f"end that tracer, or {_OTHERWISE}",
            )
        if thread_state(pid, tid) == "T":
            raise KwatchError(
                f"process {pid} cannot be stopped: a signal has stopped it already",
                f"continue it with kill -CONT {pid}, or {_OTHERWISE}",
            )


def _number(path: str, key: str) -> int:
    """A number in a status file; 0 if the thread has ended."""
    try:
        with open(path, errors="replace") as file:
            found = re.search(rf"^{key}:\s*(\d+)", file.read(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


class _Tracer(threading.Thread):
    """Seizes the threads of a process and holds them until `release`."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="ptrace", daemon=True)
        self._pid = pid
        self._is_done, self._is_released = threading.Event(), threading.Event()
        self._states: dict[int, ThreadState] = {}
        self._failure: KwatchError | None = None

    def threads(self) -> list[ThreadState]:
        """Waits until all are stopped. Raises KwatchError."""
        self._is_done.wait()
        if self._failure is not None:
            raise self._failure
        return [self._states[tid] for tid in sorted(self._states)]

    def release(self) -> None:
        """Lets the process continue, and waits until it can."""
        self._is_released.set()
        self.join()
        # join() returns a moment before the kernel's thread has ended.
        while os.path.exists(f"/proc/self/task/{self.native_id}"):
            time.sleep(_POLL_SECONDS)

    def run(self) -> None:
        try:
            self._stop_all()
        except OSError as error:
            self._failure = KwatchError(
                f"process {self._pid} cannot be stopped: {error.strerror}",
                f"see /proc/sys/kernel/yama/ptrace_scope, or {_OTHERWISE}",
            )
        except KwatchError as error:
            self._failure = error
        self._is_done.set()
        if self._failure is None:
            self._is_released.wait()

    def _stop_all(self) -> None:
        """Raises KwatchError or OSError."""
        seen: set[int] = set()
        while new := set(thread_ids(self._pid)) - seen:
            seen |= new
            self._await({tid for tid in new if self._seize(tid)})
        if unread := seen - self._states.keys():
            others = {state.tid: state for state in read_threads(self._pid)}
            self._states |= {tid: others[tid] for tid in unread & others.keys()}
        if not self._states:
            raise KwatchError(f"process {self._pid} cannot be stopped: it has ended")

    def _seize(self, tid: int) -> bool:
        """Whether the thread will stop. Raises OSError."""
        try:
            ptrace.seize(tid)
            ptrace.interrupt(tid)
        except ProcessLookupError:
            return False
        except PermissionError:
            if self._has_user_code(tid):
                raise
            return False
        return True

    def _has_user_code(self, tid: int) -> bool:
        """Not a thread that has ended, nor one of the kernel's own, such as those of io_uring."""
        return any(state.tid == tid for state in read_threads(self._pid))

    def _await(self, waiting: set[int]) -> None:
        """Waits until none of these threads can run user code. Raises KwatchError or OSError."""
        began = time.monotonic()
        while waiting := {tid for tid in waiting if not self._has_stopped(tid)}:
            seconds = time.monotonic() - began
            if seconds > _MAX_SECONDS_IN_KERNEL:
                waiting = {tid for tid in waiting if thread_state(self._pid, tid) != "D"}
            if seconds > _MAX_SECONDS:
                raise KwatchError(
                    f"process {self._pid} cannot be stopped: threads did not stop in time: "
                    f"{', '.join(map(str, sorted(waiting)))}",
                    f"try again, or {_OTHERWISE}",
                )
            time.sleep(_POLL_SECONDS)

    def _has_stopped(self, tid: int) -> bool:
        """Also if it has ended. Notes the registers."""
        try:
            raw = ptrace.general_registers(tid)
        except ProcessLookupError:
            return has_ended(self._pid, tid)
        places, position = registers().places, registers().position
        words = np.frombuffer(raw[: len(raw) // _WORD * _WORD], np.uint64)
        # A 32-bit program has fewer, and a thread of the kernel's own, as for io_uring, has none.
        if len(words) > max(*places, *position) and words[position].any():
            self._states[tid] = state_of(tid, words[places])
        return True
