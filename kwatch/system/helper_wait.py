# SPDX-License-Identifier: Apache-2.0
"""Waits for a helper process for as long as it is at work, however slow the machine is."""

from __future__ import annotations

import math
import select
import socket
import time
from typing import NamedTuple

_LOOK_S = 0.1


class _Activity(NamedTuple):
    """`cpu_ticks` of CPU time, and how often it slept: each answer of a file system wakes it."""

    is_runnable: bool
    cpu_ticks: int
    sleeps: int


def has_answer(pid: int, sock: socket.socket, idle_s: float, limit_s: float = math.inf) -> bool:
    """Whether a helper answers: whether its socket becomes readable.

    False if the helper has slept for `idle_s` without a wake-up, or after `limit_s` in any case. A
    helper that waits for a CPU is not idle.
    """
    began = changed = time.monotonic()
    last = _activity(pid)
    while not select.select([sock], [], [], min(_LOOK_S, idle_s))[0]:
        now, activity = time.monotonic(), _activity(pid)
        if activity != last or activity.is_runnable:
            last, changed = activity, now
        if now - changed >= idle_s or now - began >= limit_s:
            return False
    return True


def _activity(pid: int) -> _Activity:
    """From proc_pid_stat(5) and proc_pid_status(5); these take no lock that a hung task holds."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open(f"/proc/{pid}/status", "rb") as file:
            words = dict(line.partition(b":")[::2] for line in file)
    except OSError:
        return _Activity(False, 0, 0)  # it has ended: its socket is readable
    ticks = int(fields[11]) + int(fields[12])
    return _Activity(fields[0] == b"R", ticks, int(words[b"voluntary_ctxt_switches"]))
