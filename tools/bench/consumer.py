# SPDX-License-Identifier: Apache-2.0
"""CPU time of kwatch itself per event: all threads, kernel and user mode.

The time runs from the attach until kwatch has reported the whole burst. It includes reading,
aggregating and the snapshots during the burst, but not the start of kwatch.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import processes
from bench.peers import kwatch
from bench.quiet import Quiet
from bench.rows import Row, number
from bench.settings import Settings
from bench.workload import Loop, loop

_BURSTS = 3


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    with loop(directory) as target:
        for what, options, limit in (("pairs", "--no-syscalls", 60), ("getppid", "--no-heap", 40)):
            yield _stream(target, what, options, limit, settings.burst_ms)


def _stream(target: Loop, what: str, options: str, limit: float, burst_ms: int) -> Row:
    figures, events = [], 0
    with kwatch("--pid", target.pid, options, "--interval", 1) as session:
        for _ in range(_BURSTS):
            Quiet.wait()
            before = processes.cpu_ns(session.pid)
            count = target.run(what, burst_ms).count * (2 if what == "pairs" else 1)
            events += count
            session.document(partial(_has_seen, events))
            figures.append((processes.cpu_ns(session.pid) - before) / count)
    name = "heap event" if what == "pairs" else "system call event"
    note = f"{_BURSTS} bursts, {number(events / 1e6)} M events"
    return Row("consumer", f"CPU of kwatch per {name}", median(figures), "ns", limit, note=note)


def _has_seen(events: int, report: dict[str, Any]) -> bool:
    lost = sum(report["lost"]["by_cause"].values())
    heap, calls = report["heap"], report["syscalls"]
    delivered = heap["allocs"] + heap["frees"] if heap else _calls_of(calls, "getppid")
    return bool(delivered + lost >= events)


def _calls_of(calls: dict[str, Any], name: str) -> int:
    return sum(row["calls"] for row in calls["by_name"] if row["name"] == name)
