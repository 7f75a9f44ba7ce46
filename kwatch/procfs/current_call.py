# SPDX-License-Identifier: Apache-2.0
"""The system call that each thread of a process is blocked in, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from kwatch.wire.events import Abi

_END_OF_32_BITS = 1 << 32
_X32_BIT = 0x40000000


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """A call in progress."""

    abi: Abi
    nr: int
    first_argument: int


def thread_ids(pid: int) -> Iterator[int]:
    """The threads of a process; none if it has ended."""
    try:
        names = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    yield from map(int, names)


def is_alive(pid: int, tid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/task/{tid}")


def thread_state(pid: int, tid: int) -> str:
    """The letter of proc_pid_stat(5); empty if the thread has ended and its number is free."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb", buffering=0) as file:
            return file.read(512).rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""


def has_ended(pid: int, tid: int) -> bool:
    """Also while its number is kept, as that of a main thread is."""
    return thread_state(pid, tid) in ("Z", "X", "")


def current_call(pid: int, tid: int) -> CurrentCall | None:
    """The call that the thread is blocked in; None if there is none, or it cannot be read."""
    return parsed(_words(pid, tid), os.uname().machine)


def blocked_stack_pointer(pid: int, tid: int) -> int | None:
    """The stack pointer of a blocked thread; None if it runs, or it cannot be read."""
    words = _words(pid, tid)
    return int(words[-2], 16) if len(words) > 2 else None


def blocked_position(pid: int, tid: int) -> tuple[int, int] | None:
    """The stack pointer and the pc of a blocked thread; None if it runs, or cannot be read."""
    words = _words(pid, tid)
    return (int(words[-2], 16), int(words[-1], 16)) if len(words) > 2 else None


def _words(pid: int, tid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/task/{tid}/syscall", "rb", buffering=0) as file:
            return file.read(256).split()
    except OSError:
        return []


def parsed(words: list[bytes], machine: str) -> CurrentCall | None:
    """From the words of a `syscall` file: the number, six arguments, stack pointer, and pc.

    A thread that runs, is blocked outside of calls, or is the kernel's own has no call.
    """
    if len(words) != 9:
        return None
    nr = int(words[0])
    first, sp, pc = (int(words[index], 16) for index in (1, 7, 8))
    if nr < 0 or not sp:
        return None
    is_short = sp < _END_OF_32_BITS and pc < _END_OF_32_BITS
    if machine == "aarch64":
        return CurrentCall(Abi.ARM if is_short else Abi.AARCH64, nr, first)
    if nr & _X32_BIT:
        return CurrentCall(Abi.X32, nr & ~_X32_BIT, first)
    return CurrentCall(Abi.I386 if is_short else Abi.X86_64, nr, first)
