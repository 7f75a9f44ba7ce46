# SPDX-License-Identifier: Apache-2.0
"""Start-up time and resident memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from bench import processes
from bench.peers import kwatch
from bench.quiet import Quiet
from bench.rows import Row
from bench.settings import Settings
from bench.workload import loop


def measure_footprint(settings: Settings, directory: Path) -> Iterable[Row]:
    runs = [_run_true() for _ in range(settings.rounds)]
    seconds, peaks = zip(*runs, strict=True)
    yield Row("footprint", "kwatch -- true, wall", median(seconds), "s", 1.0)
    yield Row("footprint", "its largest process, peak RSS", median(peaks), "MB", 150)
    with loop(directory) as target:
        yield from _attached(target.pid)


def _attached(pid: int) -> Iterable[Row]:
    started = time.monotonic()
    with kwatch("--pid", pid) as session:
        attached = time.monotonic()
        resident = processes.status_mb(session.pid, "VmRSS")
        asked = time.monotonic()
    yield Row("footprint", "attached, RSS", resident, "MB", 150)
    yield Row("footprint", "from start to attached", attached - started, "s")
    yield Row("footprint", "from SIGINT to the end", time.monotonic() - asked, "s")


def _run_true() -> tuple[float, float]:
    """Seconds, and MB of the largest of kwatch, its compiler and the command."""
    Quiet.wait()
    started = time.monotonic()
    command = [sys.executable, "-m", "kwatch", "--", "true"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"kwatch -- true ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * 1024 / 1e6


def measure_live(settings: Settings, directory: Path) -> Iterable[Row]:
    blocks = settings.live_blocks
    with loop(directory) as target, kwatch("--pid", target.pid, "--interval", 1) as session:
        before = processes.status_mb(session.pid, "VmRSS")
        target.run("hold", blocks)
        session.document(lambda report: bool(report["heap"]["live_blocks"] >= blocks))
        after = processes.status_mb(session.pid, "VmRSS")
        peak = processes.status_mb(session.pid, "VmHWM")
    measure = f"{blocks:,} live blocks, RSS growth"
    yield Row("live", measure, peak - before, "MB", 250, note=f"peak; {after - before:.0f} after")
