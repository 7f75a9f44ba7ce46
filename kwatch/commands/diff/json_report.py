# SPDX-License-Identifier: Apache-2.0
"""What differs between two runs, as objects of JSON, one for each line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kwatch.recording.diff.compare import Comparison
from kwatch.recording.diff.details import region_details
from kwatch.recording.diff.regions import NONE, Region, Step
from kwatch.recording.diff.run import Run, Thread

_RUNS = ("first", "second")


def json_lines(first: Run, second: Run, found: Comparison) -> Iterator[str]:
    """The summary comes first."""
    yield json.dumps(_summary(first, second, found))
    for run, threads in zip(_RUNS, found.alone, strict=True):
        for thread in threads:
            calls = len(thread.rows)
            yield json.dumps({"kind": "thread", "run": run, **_thread(thread), "calls": calls})
    for region in found.regions:
        yield json.dumps(_difference(first, second, region))
    for count in found.counts:
        yield json.dumps({"kind": "count", **count._asdict()})
    for latency in found.latencies:
        yield json.dumps({"kind": "latency", **latency._asdict()})


def _summary(first: Run, second: Run, found: Comparison) -> dict[str, Any]:
    return {
        "kind": "summary",
        "differs": found.differs,
        "runs": [
            {"path": run.path, "calls": len(run), "threads": len(run.threads)}
            for run in (first, second)
        ],
        "changed": found.changed,
        "only_first": found.only_ours,
        "only_second": found.only_theirs,
        "differences": found.region_count,
    }


def _thread(thread: Thread) -> dict[str, Any]:
    return {"pid": thread.pid, "tid": thread.tid, "comm": thread.comm}


def _difference(first: Run, second: Run, region: Region) -> dict[str, Any]:
    return {
        "kind": "difference",
        "threads": [_thread(thread) for thread in region.threads],
        "calls_before": region.number,
        "before": _steps(first, second, region.before),
        "steps": _steps(first, second, region.steps),
        "omitted": region.omitted,
        "after": _steps(first, second, region.after),
        "details": [
            {"what": each.what, "first": each.ours, "second": each.theirs}
            for each in region_details(first, second, region)
        ],
    }


def _steps(first: Run, second: Run, steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [
        {"first": _call(first, step.ours), "second": _call(second, step.theirs)} for step in steps
    ]


def _call(run: Run, row: int) -> dict[str, Any] | None:
    """None if the run has no such call."""
    if row == NONE:
        return None
    text = run.texts(np.array([row]))[0]
    return {"seq": run.column("seq")[row].as_py(), "text": text}
