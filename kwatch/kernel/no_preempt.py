# SPDX-License-Identifier: Apache-2.0
"""Keeps the calling thread on its CPU while it reads or changes an element of a map.

Meanwhile perf runs no program of a tracepoint on that CPU (bpf_disable_instrumentation() in the
kernel's bpf(2)): what other threads do there would be missed, if one of them came to run. Nothing
but a real-time thread takes the CPU from a real-time thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_REAL_TIME = (os.SCHED_FIFO, os.SCHED_RR)
_LOWEST = os.sched_param(1)

_is_wanted = False


def want_unpreempted() -> None:
    """To be called where perf runs kwatch's programs; before, `unpreempted` does nothing.

    Nor does it later where it may not, or where this thread is real-time anyway.
    """
    global _is_wanted
    _is_wanted = os.sched_getscheduler(0) not in _REAL_TIME and may_be_unpreempted()


def may_be_unpreempted() -> bool:
    """Whether this thread may be real-time and come back, which takes CAP_SYS_NICE."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy in _REAL_TIME:
        return True
    try:
        _become_real_time()
        os.sched_setscheduler(0, policy, parameters)
    except PermissionError:
        return False
    return True


@contextmanager
def unpreempted() -> Iterator[None]:
    if not _is_wanted:
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        _become_real_time()
    except PermissionError:  # forbidden since
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _become_real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, _LOWEST)
