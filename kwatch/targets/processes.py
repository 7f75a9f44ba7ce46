# SPDX-License-Identifier: Apache-2.0
"""Facts about processes from /proc, by psutil: identity, names, and why one cannot be traced."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import psutil

from kwatch.errors import KwatchError
from kwatch.snapshot import ProcessFacts
from kwatch.targets import globs

_KTHREADD = 2
_SAME_START_S = 0.1

#: The pids of processes that kwatch has made for itself: they are no targets.
OWN: set[int] = set()


def facts(pid: int) -> ProcessFacts | None:
    """A process as it is now; None if it has ended."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return ProcessFacts(pid, process.create_time(), comm_of(pid), exe_of(pid))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def comm_of(pid: int) -> str:
    with open(f"/proc/{pid}/comm", "rb") as file:
        return os.fsdecode(file.read().rstrip(b"\n"))


def exe_of(pid: int) -> str:
    """Path of the executable in its own mount namespace; empty where that cannot be told."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def start_time(boottime_ns: int) -> float:
    """Seconds since the epoch, rounded as psutil rounds, from a task's start_boottime."""
    ticks = os.sysconf("SC_CLK_TCK")
    return psutil.boot_time() + boottime_ns * ticks // 1_000_000_000 / ticks


def is_alive(known: ProcessFacts) -> bool:
    """Whether this process still exists: one of its pid that began at another time is another."""
    now = facts(known.pid)
    return now is not None and abs(now.start_time - known.start_time) < _SAME_START_S


def require(pid: int) -> ProcessFacts:
    """The facts of a process that the user named; KwatchError says why it cannot be traced."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = facts(pid)
        if found is not None:
            _require_traceable(found)
            return found
    raise KwatchError(f"there is no process {pid}", "list the running ones with `ps -e`")


def _require_traceable(found: ProcessFacts) -> None:
    """Raises KwatchError; FileNotFoundError or ProcessLookupError if it ends meanwhile."""
    pid = found.pid
    if os.stat(f"/proc/{pid}").st_uid != os.geteuid() and os.geteuid() != 0:
        raise KwatchError(f"process {pid} belongs to another user", "run kwatch as root")
    if pid == os.getpid():
        raise KwatchError("kwatch does not trace itself", "give another --pid")
    if _is_kernel_thread(pid):
        raise KwatchError(
            f"process {pid} ({found.comm}) is a kernel thread: it makes no system calls and has "
            "no heap",
            "give the --pid of a program",
        )
    leader = _leader(pid)
    if leader != pid:
        raise KwatchError(f"{pid} is a thread of process {leader}", f"use --pid {leader}")


def _is_kernel_thread(pid: int) -> bool:
    try:
        return pid == _KTHREADD or psutil.Process(pid).ppid() == _KTHREADD
    except psutil.NoSuchProcess:
        return False


def _leader(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))


def named(patterns: tuple[str, ...]) -> Iterator[int]:
    """Processes other than kwatch whose comm or executable's base name matches now."""
    return (pid for pid in all_pids() if name_matches(pid, patterns))


def all_pids() -> list[int]:
    """Every process but kwatch and its own."""
    return [pid for pid in psutil.pids() if pid != os.getpid() and pid not in OWN]


def name_matches(pid: int, patterns: tuple[str, ...]) -> bool:
    try:
        exe = exe_of(pid)
        return bool(exe) and globs.matches(patterns, comm_of(pid), os.path.basename(exe))
    except (FileNotFoundError, ProcessLookupError):
        return False


def utc_now() -> str:
    """The wall clock as the reports print it."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
