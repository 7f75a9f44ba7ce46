# SPDX-License-Identifier: Apache-2.0
"""Writes to pipes, FIFOs and terminals, whose reader may be slow or stopped."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable

#: Waits until a descriptor can be written. Returns false if that takes too long.
WaitForRoom = Callable[[int], bool]


class PipeWriter(io.RawIOBase):
    """Never waits in write(2), which kwatch's signals do not end.

    `wait` waits for room. If there is none, the write fails, and what follows is discarded unless
    the writer `retries`.
    """

    def __init__(self, fd: int, wait: WaitForRoom, retries: bool = False) -> None:
        """Takes over `fd`, which is non-blocking."""
        self.wait = wait
        self._retries = retries
        self._fd = fd
        self._discards = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: object) -> int:
        """Raises OSError."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        while not self._discards:
            try:
                return os.write(self._fd, view)
            except BlockingIOError:
                if not self.wait(self._fd):
                    self._discards = not self._retries
                    raise OSError(errno.ETIMEDOUT, "its reader does not read it") from None
        return len(view)

    def discard(self) -> None:
        """Writes nothing any more."""
        self._discards = True

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def reopened(fd: int, wait: WaitForRoom, retries: bool) -> PipeWriter | None:
    """A writer to the pipe or terminal of a descriptor; None if it is something else.

    It has a description of its own: O_NONBLOCK on `fd` would hold for all who share it.
    """
    if not can_block(fd):
        return None
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return PipeWriter(os.open(f"/proc/self/fd/{fd}", flags), wait, retries)
    except OSError:
        return None  # no /proc, or a terminal of another user


def can_block(fd: int) -> bool:
    """Whether a write may wait for a reader."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd)
