# SPDX-License-Identifier: Apache-2.0
"""Keeps the calling thread on its CPU while it reads or changes an element of a map.

During that call perf runs no tracepoint programs on that CPU (bpf_disable_instrumentation() in the
kernel's bpf(2)). If another thread ran there meanwhile, its events would be missed. Only real-time
threads preempt a real-time thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_REAL_TIME = (os.SCHED_FIFO, os.SCHED_RR)
_LOWEST = os.sched_param(1)


def may_be_unpreempted() -> bool:
    """Whether this thread may become real-time and go back, which takes CAP_SYS_NICE."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy in _REAL_TIME:
        return True
    if not _become_real_time():
        return False
    os.sched_setscheduler(0, policy, parameters)
    return True


@contextmanager
def unpreempted() -> Iterator[None]:
    """Makes the thread real-time for a while. Does nothing if it is already, or may not be."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy in _REAL_TIME or not _become_real_time():
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _become_real_time() -> bool:
    """False if that is not permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, _LOWEST)
    except PermissionError:
        return False
    return True
