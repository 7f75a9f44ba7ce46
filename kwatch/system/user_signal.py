# SPDX-License-Identifier: Apache-2.0
"""SIGUSR1 on a descriptor to poll."""

from __future__ import annotations

import os
import signal

from kwatch.system.signals import signal_descriptor

_INFO_SIZE = 128  # struct signalfd_siginfo


class UserSignal:
    """Blocks the signal, and keeps its action: a launched command gets both as kwatch was given.

    Make it before there are other threads, which would take the signal.
    """

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        self._fd = signal_descriptor([signal.SIGUSR1])

    def fileno(self) -> int:
        """Readable when the signal has arrived."""
        return self._fd

    def read(self) -> bool:
        """Whether it has arrived since the last call. The kernel keeps one that is not read."""
        try:
            return bool(os.read(self._fd, _INFO_SIZE))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._fd)
