# SPDX-License-Identifier: Apache-2.0
"""Waits for a quiet machine before each visit: other work and other tracers disturb the figures.

A tracer of system calls slows the calls of every process, even those that it filters out.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

_SAMPLE_S = 0.2
_BUSY = 0.15  # of all CPUs' time
_PATIENCE_S = 300.0  # for the whole run
_TRACER_FILES = ("anon_inode:bpf-prog", "anon_inode:bpf_link", "anon_inode:[perf_event]")
_IDLE, _IOWAIT = 3, 4  # fields of /proc/stat


class Quiet:
    """Counts the visits, and those that began on a busy machine."""

    visits = 0
    disturbed = 0
    patience_s = _PATIENCE_S

    @classmethod
    def wait(cls) -> None:
        """Returns when the machine idles, or the run has waited long enough."""
        cls.visits += 1
        started = time.monotonic()
        while _busy_share() > _BUSY or _other_tracers():
            if time.monotonic() - started > cls.patience_s:
                cls.disturbed += 1
                break
        cls.patience_s -= time.monotonic() - started

    @classmethod
    def summary(cls) -> str:
        return f"{cls.disturbed} of {cls.visits} visits began beside other work or another tracer"


def _busy_share() -> float:
    before = _times()
    time.sleep(_SAMPLE_S)
    spent = [after - first for after, first in zip(_times(), before, strict=True)]
    return 1 - (spent[_IDLE] + spent[_IOWAIT]) / max(1, sum(spent))


def _other_tracers() -> bool:
    """Whether a process that is not ours holds BPF programs or perf events."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return any(_is_tracer(pid) for pid in psutil.pids() if pid not in ours)


def _is_tracer(pid: int) -> bool:
    try:
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False  # it has ended, or is a kernel thread
    return any(link.startswith(_TRACER_FILES) for link in links)


def _times() -> list[int]:
    first = Path("/proc/stat").read_text().partition("\n")[0]
    return [int(word) for word in first.split()[1:9]]
