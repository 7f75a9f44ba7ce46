# SPDX-License-Identifier: Apache-2.0
"""Facts about another process: its CPU time, its memory, what it waits for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h
_DEADLINE_S = 60.0


def cpu_ns(pid: int) -> int:
    """CPU time of all threads, also ended ones: the clock of clock_getcpuclockid(3)."""
    return time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)


def status_mb(pid: int, field: str) -> float:
    """A size in /proc/PID/status, such as VmRSS, in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(f"process {pid} has no {field}")


def tracer_of(pid: int) -> int:
    """The pid of the process's tracer; 0 if it has none."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    return 0


def state(pid: int) -> str:
    """The letter for the state of the main thread: proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def waits_in(pid: int, function: str) -> bool:
    """Whether the main thread sleeps in a kernel function whose name contains this."""
    return function in Path(f"/proc/{pid}/wchan").read_text()


def perf_events(pid: int) -> int:
    """The number of perf events that the process has open."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(link) == "anon_inode:[perf_event]"
    return count


def until(condition: Callable[[], bool], what: str) -> None:
    """Polls until the condition is true."""
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_DEADLINE_S:.0f} s: {what}")
        time.sleep(0.02)
