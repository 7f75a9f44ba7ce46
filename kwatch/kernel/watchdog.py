# SPDX-License-Identifier: Apache-2.0
"""A timer that kills this process unless it is set again: also while the process is stopped."""

from __future__ import annotations

import ctypes
import signal
import struct

from kwatch.kernel.syscall import syscall

_CLOCK_MONOTONIC = 1
_SIGEV_SIGNAL = 0
_SIGEVENT = struct.Struct("QiiQ40x")  # struct sigevent: value, signal, notify
_ITIMERSPEC = struct.Struct("qqqq")


class Watchdog:
    """The kernel sends SIGKILL when the time is over. Raises OSError."""

    def __init__(self) -> None:
        event = _SIGEVENT.pack(0, signal.SIGKILL, _SIGEV_SIGNAL, 0)
        number = ctypes.create_string_buffer(4)
        syscall("timer_create", _CLOCK_MONOTONIC, ctypes.create_string_buffer(event), number)
        self._timer = int.from_bytes(number.raw, "little")

    def set(self, seconds: int) -> None:
        """Begins the time anew; 0 stops it."""
        time = ctypes.create_string_buffer(_ITIMERSPEC.pack(0, 0, seconds, 0))
        syscall("timer_settime", self._timer, 0, time, 0)
