# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP as something to poll: they end a session with its report."""

from __future__ import annotations

import os
import signal
import time

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Installed once, for the life of the process. Under nohup, SIGHUP stays ignored."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.first_at: float | None = None
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _NUMBERS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._read

    def read(self) -> None:
        """Takes note of the signals that have come."""
        arrived = [n for n in os.read(self._read, 64) if n in _NUMBERS]
        if arrived:
            self.count += len(arrived)
            self.last = arrived[-1]
            self.first_at = self.first_at or time.monotonic()
