# SPDX-License-Identifier: Apache-2.0
"""The one exception that users see: what failed, why, and what to do about it."""

from __future__ import annotations

import enum
import errno

#: Too many open files, in the process or on the machine. Any call may fail with these.
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
CURE_OF_TOO_MANY_FILES = "raise the limit of open files: ulimit -n 65536"

#: A write fails with these if there is no room for the data.
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
    """The machine refuses something that kwatch needs; `kwatch doctor` finds the reason."""


class UsageError(KwatchError):
    """The command line is invalid."""

    exit_code = ExitCode.USAGE
