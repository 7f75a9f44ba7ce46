# SPDX-License-Identifier: Apache-2.0
"""The one exception that reaches a user: what failed, why, and what to do about it."""

from __future__ import annotations

import enum
import errno

#: The errors of a process, and of a machine, that has too many files open; they may come anywhere.
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
CURE_OF_TOO_MANY_FILES = "raise the limit of open files: ulimit -n 65536"

#: The errors of a write that finds no place.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ExitCode(enum.IntEnum):
    """Exit statuses of kwatch itself; a launched command's own status is passed through."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    LEAK = 3


class KwatchError(Exception):
    """kwatch cannot do what was asked.

    The message says what failed and why; `hint` says what to do. Only `main()` prints it.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(KwatchError):
    """The machine does not let kwatch do what it cannot do without; `kwatch doctor` looks why."""


class UsageError(KwatchError):
    """The command line cannot be understood."""

    exit_code = ExitCode.USAGE
