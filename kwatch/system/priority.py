# SPDX-License-Identifier: Apache-2.0
"""The priority of the thread that reads the rings: it must get a CPU before they are full.

Many busy threads would make it wait for longer than that. It needs little time, and as a nice value
leaves every other thread its share, a reader that has very much to do cannot stop the machine, as
one of a real-time class could.
"""

from __future__ import annotations

import os

from kwatch.errors import KwatchError

READER_NICE = -10


def raise_reader_priority() -> None:
    """Gives the calling thread priority over usual ones.

    The kernel gives threads and processes that it starts later the usual priority
    (SCHED_RESET_ON_FORK), so helpers and commands do not inherit it. Nothing changes if the user
    has chosen another priority. Raises KwatchError if it is not allowed.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, READER_NICE)
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except PermissionError as error:
        raise KwatchError(
            "kwatch may not raise the priority of the thread that reads events: CAP_SYS_NICE is "
            "missing",
            "grant it; without it, busy machines lose more events",
        ) from error
