# SPDX-License-Identifier: Apache-2.0
"""Keeps the calling thread on its CPU while it changes or reads a map.

Meanwhile perf runs no program of a tracepoint on that CPU (bpf_disable_instrumentation() in the
kernel's bpf(2)): what other threads do there would be missed, if one of them came to run. Nothing
but a real-time thread takes the CPU from a real-time thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_REAL_TIME = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
_LOWEST = os.sched_param(1)

_is_wanted = False


def want_unpreempted() -> None:
    """To be called where perf runs kwatch's programs; before, `unpreempted` does nothing."""
    global _is_wanted
    _is_wanted = True


@contextmanager
def unpreempted() -> Iterator[None]:
    """Nor does it where the thread may not be real-time: that takes CAP_SYS_NICE."""
    if not _is_wanted:
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, _REAL_TIME, _LOWEST)
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
