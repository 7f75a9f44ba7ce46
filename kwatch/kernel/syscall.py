# SPDX-License-Identifier: Apache-2.0
"""System calls that Python has no function for; errors raise OSError."""

from __future__ import annotations

import ctypes
import os
from functools import cache

# The calls of Linux 5.0 and later have one number on all architectures.
_COMMON = {
    **{"io_uring_setup": 425, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "openat2": 437},
}
_NUMBERS = {
    "x86_64": {
        **{"bpf": 321, "perf_event_open": 298, "ptrace": 101, "statfs": 137, "timer_create": 222},
        **{"timer_settime": 223, "userfaultfd": 323, **_COMMON},
    },
    "aarch64": {
        **{"bpf": 280, "perf_event_open": 241, "ptrace": 117, "statfs": 43, "timer_create": 107},
        **{"timer_settime": 110, "userfaultfd": 282, **_COMMON},
    },
}

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def machine() -> str:
    """The running kernel's architecture, `x86_64` or `aarch64`."""
    return os.uname().machine


def syscall(name: str, *arguments: int | ctypes.Array[ctypes.c_char] | ctypes.Structure) -> int:
    """Makes the system call; raises OSError on failure and on an unknown architecture."""
    numbers = _NUMBERS.get(machine())
    if numbers is None:
        raise OSError(38, f"kwatch supports x86-64 and arm64, not {machine()}")
    result = int(_libc.syscall(ctypes.c_long(numbers[name]), *map(_converted, arguments)))
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, _message(errno))
    return result


@cache
def _message(errno: int) -> str:
    """os.strerror() takes longer than a look-up in a map that finds nothing."""
    return os.strerror(errno)


def _converted(argument: int | ctypes.Array[ctypes.c_char] | ctypes.Structure) -> object:
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return ctypes.byref(argument)
