# SPDX-License-Identifier: Apache-2.0
"""ptrace(2): the few requests that stop a thread and read its registers.

The kernel lets go of the threads that a thread has seized when that one ends, also if it is killed.
"""

from __future__ import annotations

import ctypes

from kwatch.kernel.syscall import syscall

_SEIZE, _INTERRUPT, _GETREGSET = 0x4206, 0x4207, 0x4204
_NT_PRSTATUS = 1
_MAX_REGISTERS = 512


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def seize(tid: int) -> None:
    """The calling thread becomes the tracer. Raises OSError."""
    syscall("ptrace", _SEIZE, tid, 0, 0)


def interrupt(tid: int) -> None:
    """Lets the thread stop before it runs user code again. Raises OSError."""
    syscall("ptrace", _INTERRUPT, tid, 0, 0)


def general_registers(tid: int) -> bytes:
    """NT_PRSTATUS of a stopped thread. Raises OSError, ESRCH if it is not stopped."""
    into = ctypes.create_string_buffer(_MAX_REGISTERS)
    vector = _Vector(ctypes.addressof(into), len(into))
    syscall("ptrace", _GETREGSET, tid, _NT_PRSTATUS, vector)
    return into.raw[: vector.size]
