# SPDX-License-Identifier: Apache-2.0
"""Reports that are written in a guest and checked on the host.

A guest saves kwatch's output with the expected figures; tools/vm reads both on the host, which may
have another architecture.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness.session import documents

#: Names the shared directory, if there is one.
VARIABLE = "KWATCH_EXCHANGE"

#: What kwatch calls a number that no kernel has.
NO_NAME = "unknown"

Calls = Mapping[str, int]


def save(name: str, lines: Iterable[str], expected: Mapping[int, Calls]) -> None:
    """Saves kwatch's output and the expected calls by pid; pid 0 stands for all processes."""
    if directory := os.environ.get(VARIABLE):
        path = Path(directory, name)
        path.with_suffix(".jsonl").write_text("\n".join(lines))
        path.with_suffix(".expected").write_text(json.dumps(list(expected.items())))


def saved(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.jsonl"))


def mismatches(report: Path, known: frozenset[str]) -> Iterator[str]:
    """Yields each difference from the expected calls and each unknown name in a saved report.

    Calls with a number that no kernel has are named `unknown`: each must be expected.
    """
    finals = [d for d in documents(report.read_text().splitlines()) if d["kind"] == "final"]
    by_pid: dict[int, Counter[str]] = {0: Counter()}
    for final in finals:
        calls = {row["name"]: row["calls"] for row in final["syscalls"]["by_name"]}
        by_pid[final["process"]["pid"]] = Counter(calls)
        by_pid[0].update(calls)
    expected = dict(json.loads(report.with_suffix(".expected").read_text()))
    for name in sorted(by_pid[0].keys() - known - {NO_NAME}):
        yield f"{report.stem}: no system call of its machine is named {name}"
    for pid in by_pid.keys() | expected.keys():
        unnamed = {NO_NAME: 0} if pid else {}  # 0 stands for all processes
        for name, count in (unnamed | expected.get(pid, {})).items():
            if by_pid[pid][name] != count:
                yield f"{report.stem}: {by_pid[pid][name]} x {name} in {pid}, and not {count}"
