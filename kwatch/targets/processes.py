# SPDX-License-Identifier: Apache-2.0
"""Facts about processes from /proc and psutil: identity, names, why one cannot be traced."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TypeVar

import psutil

from kwatch.errors import KwatchError
from kwatch.model.process import ProcessFacts
from kwatch.targets import globs

_Each = TypeVar("_Each")
_Found = TypeVar("_Found")

_KTHREADD = 2
_EXITING = 0x4  # include/linux/sched.h, PF_EXITING
_TICKS = os.sysconf("SC_CLK_TCK")


class Ended(KwatchError):
    """A process that the user named is not there, or no longer."""


def facts(pid: int) -> ProcessFacts | None:
    """A process as it is now; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()  # from the third on: proc(5)
        flags, started = int(fields[6]), int(fields[19])
        if flags & _EXITING and not _has_threads(pid):
            return None
        start = _boot_time() + started / _TICKS
        return ProcessFacts(pid, start, _comm(pid), exe_of(pid))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _has_threads(pid: int) -> bool:
    """Whether threads other than the first are left: it may end before them."""
    return len(os.listdir(f"/proc/{pid}/task")) > 1


@cache
def _boot_time() -> float:
    """Read once: it changes with the wall clock, but start times must stay comparable.

    /proc/stat and psutil have whole seconds.
    """
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm", "rb") as file:
        return os.fsdecode(file.read().rstrip(b"\n"))


def comm_of(pid: int) -> str:
    """The name of the first thread; empty if the process has ended."""
    try:
        return _comm(pid)
    except (FileNotFoundError, ProcessLookupError):
        return ""


def exe_of(pid: int) -> str:
    """The path of the executable in its mount namespace; empty if it is unknown."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def start_time(boottime_ns: int) -> float:
    """Seconds since the epoch, rounded as /proc rounds, from a task's start_boottime."""
    return _boot_time() + boottime_ns * _TICKS // 1_000_000_000 / _TICKS


def same_start(one: float, other: float) -> bool:
    """Whether two processes with the same pid are the same process."""
    return abs(one - other) < 0.5 / _TICKS


def now(known: ProcessFacts) -> ProcessFacts | None:
    """The process as it is now; None if it has ended, even if its pid was reused."""
    found = facts(known.pid)
    return found if found and same_start(found.start_time, known.start_time) else None


def require(pid: int) -> ProcessFacts:
    """The facts of a process that the user named.

    Raises Ended, or another KwatchError that says why it cannot be traced.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = facts(pid)
        if found is not None:
            _require_traceable(found)
            return found
        if os.path.exists(f"/proc/{pid}"):
            raise Ended(
                f"process {pid} has ended and waits for its parent",
                "give the --pid of a running process; ps -e shows this one as defunct",
            )
    raise Ended(f"there is no process {pid}", "list the running ones with `ps -e`")


def present(
    each: Iterable[_Each], look: Callable[[_Each], _Found]
) -> tuple[list[_Found], list[tuple[_Each, Ended]]]:
    """Looks for several processes that the user named.

    Returns what was found, and those that have ended. Raises Ended if all have.
    """
    found: list[_Found] = []
    missing: list[tuple[_Each, Ended]] = []
    for one in each:
        try:
            found.append(look(one))
        except Ended as error:
            missing.append((one, error))
    if missing and not found:
        raise missing[0][1]
    return found, missing


def require_still(known: ProcessFacts) -> ProcessFacts:
    """The current facts of a process that the user named. Raises Ended."""
    found = now(known)
    if found is None:
        raise Ended(
            f"process {known.pid} ({known.comm}) ended before kwatch was attached to it",
            "give the --pid of a running process, or launch the program: kwatch -- COMMAND",
        )
    return found


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
    """Every process but kwatch itself."""
    return [pid for pid in psutil.pids() if pid != os.getpid()]


def descendants(ancestors: set[int]) -> list[int]:
    """The children of these, and theirs, except kwatch and its ancestors."""
    parents = dict(_parents())
    own, pid = {0}, os.getpid()
    while pid not in own:
        own.add(pid)
        pid = parents.get(pid, 0)
    known, new = set(ancestors), ancestors
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - known
        known |= new
    return sorted(known - ancestors - own)


def _parents() -> Iterator[tuple[int, int]]:
    for pid in psutil.pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            yield pid, psutil.Process(pid).ppid()


def name_matches(pid: int, patterns: tuple[str, ...]) -> bool:
    exe = exe_of(pid)
    return bool(exe) and globs.matches(patterns, comm_of(pid), os.path.basename(exe))


def utc_now() -> str:
    """The wall-clock time as in the reports."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
