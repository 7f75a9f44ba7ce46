# SPDX-License-Identifier: Apache-2.0
"""Lines that the user types at the terminal, without a change of its mode."""

from __future__ import annotations

import errno
import os
import signal
import stat

_STDIN, _STDOUT = 0, 1
_SIZE = 4096  # the longest line of a terminal, N_TTY_BUF_SIZE in linux drivers/tty/n_tty.c


class InBackground(Exception):
    """The terminal is another job's now: its input may not be read."""


class TerminalLines:
    """Reads standard input through an open file of its own, so that no read blocks.

    Raises OSError if standard input is no terminal, or if standard output is a pipe: its reader may
    be a pager, which reads the terminal itself.
    """

    def __init__(self) -> None:
        if not os.isatty(_STDIN) or _is_pipe(_STDOUT):
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        self._fd = os.open(
            f"/proc/self/fd/{_STDIN}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )

    def fileno(self) -> int:
        """Readable when a line has been typed."""
        return self._fd

    def read(self) -> list[bytes]:
        """The lines that were typed, without spaces. Raises InBackground."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTIN])  # it would stop kwatch
        try:
            typed = os.read(self._fd, _SIZE)
        except BlockingIOError:
            return []
        except OSError as error:
            raise InBackground from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return [line.strip() for line in typed.splitlines()]

    def close(self) -> None:
        os.close(self._fd)


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
