# SPDX-License-Identifier: Apache-2.0
"""Hardware breakpoints through perf_event_open(2), PERF_TYPE_BREAKPOINT.

One belongs to a thread or to a CPU. It is moved, not opened again: that takes 2 us instead of 2 ms.
"""

from __future__ import annotations

import enum
import fcntl
import os
import struct
from dataclasses import dataclass

from kwatch.kernel import perf

_TYPE_BREAKPOINT = 5
_IOC_DISABLE, _IOC_MODIFY = 0x2401, 0x4008240B
_INHERIT = 1 << 1
_INHERIT_THREAD, _REMOVE_ON_EXEC = 1 << 35, 1 << 36
#: New threads get the event, new processes and new programs do not (Linux 5.13, commits
#: 2b26f0aa0049, 2e498d0a74e5).
OF_PROCESS = _INHERIT | _INHERIT_THREAD | _REMOVE_ON_EXEC
#: Bytes of a breakpoint for instructions: sizeof(long).
CODE_LENGTH = 8


class Access(enum.IntEnum):
    """The bits of bp_type. No processor watches reads alone."""

    WRITE = 2
    READ_WRITE = 3
    EXECUTE = 4


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """What is watched: 1, 2, 4 or 8 bytes, aligned to as many; `CODE_LENGTH` for instructions."""

    address: int
    length: int
    access: Access


def open_breakpoint(watched: Breakpoint, pid: int, cpu: int = -1, flags: int = 0) -> int:
    """An event for each hit, disabled. `pid` is a thread's, or perf.EVERY_PROCESS with a CPU.

    Raises OSError: ENOSPC if no register is free, EINVAL if the kernel cannot do it.
    """
    return perf.open_event(pid, cpu, **_fields(watched, flags | perf.DISABLED))


def move_breakpoint(fd: int, watched: Breakpoint, flags: int = 0) -> None:
    """Enables the event at another place; `flags` as it was opened.

    Reaches inherited events too (Linux 5.13, commit 47f661eca070). Raises OSError.
    """
    fcntl.ioctl(fd, _IOC_MODIFY, perf.attributes(**_fields(watched, flags)).raw)


def disable(fd: int) -> None:
    fcntl.ioctl(fd, _IOC_DISABLE, 0)


def count(fd: int) -> int:
    """How often the processor has reported a hit, also of threads that have ended."""
    return int(struct.unpack("Q", os.read(fd, 8))[0])


def _fields(watched: Breakpoint, flags: int) -> dict[str, int]:
    return {
        "type": _TYPE_BREAKPOINT,
        "period": 1,
        "flags": flags,
        "bp_type": watched.access,
        "config1": watched.address,
        "config2": watched.length,
    }
