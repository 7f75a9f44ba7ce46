# SPDX-License-Identifier: Apache-2.0
"""The task of a process through which its memory can be read."""

from __future__ import annotations

import errno
import os


def task_with_memory(pid: int) -> int:
    """The process, or another thread of it if its main thread has ended: that one has no memory.

    Raises OSError if there is none.
    """
    for tid in (pid, *map(int, os.listdir(f"/proc/{pid}/task"))):
        try:
            os.readlink(f"/proc/{pid}/task/{tid}/exe")  # ENOENT: no memory
        except FileNotFoundError:
            continue
        return tid
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
