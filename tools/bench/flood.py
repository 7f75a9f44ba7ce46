# SPDX-License-Identifier: Apache-2.0
"""Checks that no event is lost at a million per second, and that losses under a flood count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.peers import kwatch
from bench.rows import Row
from bench.settings import Settings
from bench.workload import test_program

_RATE = 1_000_000
_THREADS = 2


def measure_rate(settings: Settings, directory: Path) -> Iterable[Row]:
    """With the default buffer nothing may be lost."""
    seconds = settings.rate_seconds
    with (
        test_program(directory, "rate", _RATE, seconds, _THREADS) as target,
        kwatch("--pid", target.pid, "--no-heap") as session,
    ):
        said = target.go()
        final = session.stop().final()
    expected, took = said["getppid"], said["elapsed_ns"] / 1e9
    note = f"{expected:,} calls in {took:.1f} s"
    missing = expected - _delivered(final)
    yield Row("rate", "lost at 1,000,000 calls/s", final["lost"]["events"], limit=0, note=note)
    yield Row("rate", "calls not reported", abs(missing), limit=0)


def measure_loss(settings: Settings, directory: Path) -> Iterable[Row]:
    """With a buffer that is too small, delivered + lost must equal the program's own count."""
    options = ("-e", "trace=getppid", "--no-heap", "--buffer", "64K")
    with (
        test_program(directory, "getppid", _THREADS, settings.flood_calls) as target,
        kwatch("--pid", target.pid, *options) as session,
    ):
        said = target.go()
        final = session.stop().final()
    lost = final["lost"]["events"]
    note = f"{_delivered(final):,} delivered + {lost:,} lost, of {said['getppid']:,}"
    unexplained = abs(said["getppid"] - _delivered(final) - lost)
    yield Row("loss", "events neither delivered nor counted", unexplained, limit=0, note=note)


def _delivered(final: dict[str, Any]) -> int:
    rows = final["syscalls"]["by_name"]
    return sum(row["calls"] for row in rows if row["name"] == "getppid")
