# SPDX-License-Identifier: Apache-2.0
"""A system call of a thread, or another line of a trace, before it becomes text."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

#: What was captured of a program's memory, None for what was not: kwatch.syscalls.capture_format.
Pieces = Sequence[bytes | None]


class Moment(enum.Enum):
    """What a line of a trace tells."""

    RETURNED = enum.auto()  # also a call that never returns, such as exit
    UNFINISHED = enum.auto()  # the thread ended inside the call
    IN_PROGRESS = enum.auto()  # kwatch ended first
    BLOCKED = enum.auto()  # for long; its end follows
    SIGNAL = enum.auto()
    ENDED = enum.auto()  # the thread
    IO_REQUEST = enum.auto()  # of io_uring, completed: kwatch.syscalls.io_uring
    IO_IN_PROGRESS = enum.auto()  # one that is not when kwatch ends


#: Of io_uring.
REQUESTS = (Moment.IO_REQUEST, Moment.IO_IN_PROGRESS)


class TracedCall(NamedTuple):
    """`time_ns`: when the call began, CLOCK_REALTIME. `duration_ns`: None if it never returns.

    `result`: of an ENDED thread, its status as wait() returns it. `arguments`: six registers; of a
    SIGNAL, the first bytes of its siginfo_t; of an IO_REQUEST, its user data, its flags and those
    of its completion. `comm`, `uid`, `cgroup_id`: of the thread, when the call began. `is_cut`:
    some of its contents were lost. `entry_tid`: the tid when the call began, which an exec may
    change. `stack`: the identity of its call stack, or a NoCallStack. `seq`: the number of the call
    in its thread, while it is traced.
    """

    moment: Moment
    pid: int
    tid: int
    comm: bytes
    abi: int
    nr: int
    name: str
    time_ns: int
    duration_ns: int | None
    result: int
    arguments: list[int]
    pieces: Pieces
    ip: int = 0
    is_cut: bool = False
    uid: int = 0
    cgroup_id: int = 0
    entry_tid: int = 0
    stack: int = 0
    seq: int = 0
