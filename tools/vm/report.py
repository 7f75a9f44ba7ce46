# SPDX-License-Identifier: Apache-2.0
"""Prints the results of all guests as one table of tests by kernel, with notes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.guest import Ending

RUNNING = "running"
_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skip", RUNNING: "HUNG"}
_PREFIX = "tests/kernel/"


@dataclass(frozen=True, slots=True)
class Outcome:
    outcome: str
    why: str
    seconds: float


@dataclass(slots=True)
class Result:
    """The result of one kernel."""

    kernel: str
    ending: Ending
    output: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        failed = any(o.outcome in ("failed", RUNNING) for o in self.outcomes.values())
        return self.ending.status == 0 and bool(self.outcomes) and not failed


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Reads the lines that tests/conftest.py wrote. A failed fixture is a failed test.

    Ignores an incomplete last line.
    """
    found: dict[str, Outcome] = {}
    text = path.read_text() if path.exists() else ""
    for line in text.split("\n")[:-1]:
        fields = json.loads(line)
        name = fields["test"].removeprefix(_PREFIX)
        is_first = name not in found or found[name].outcome == RUNNING
        if is_first or fields["outcome"] == "failed":
            found[name] = Outcome(fields["outcome"], fields["why"], fields["seconds"])
    return found


def table(results: Sequence[Result]) -> str:
    """The table; below it the reasons of skips and each guest that did not finish."""
    names = list(dict.fromkeys(name for result in results for name in result.outcomes))
    width = max(map(len, ["test", *names]))
    columns = [max(len(result.kernel), 7) for result in results]
    lines = [_row("test", width, [result.kernel for result in results], columns)]
    for name in names:
        cells = [_cell(result, name) for result in results]
        lines.append(_row(name, width, cells, columns))
    times = [f"{result.ending.seconds:.0f} s" for result in results]
    lines.append(_row("boot to power-off", width, times, columns))
    times = [f"{result.ending.cpu_seconds:.0f} s" for result in results]
    lines.append(_row("CPU time of the host", width, times, columns))
    lines += ["", *_notes(results)]
    return "\n".join(lines)


def _row(name: str, width: int, cells: Sequence[str], columns: Sequence[int]) -> str:
    padded = (cell.ljust(column) for cell, column in zip(cells, columns, strict=True))
    return f"{name:{width}}  {'  '.join(padded)}".rstrip()


def _cell(result: Result, name: str) -> str:
    outcome = result.outcomes.get(name)
    return "-" if outcome is None else _MARKS[outcome.outcome]


def _notes(results: Sequence[Result]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for result in results:
        for name, outcome in result.outcomes.items():
            if outcome.outcome == "skipped":
                reasons.setdefault(f"{name}: {outcome.why}", []).append(result.kernel)
    lines = [f"skipped on {', '.join(kernels)}: {why}" for why, kernels in reasons.items()]
    for result in results:
        failed = [(name, o.why) for name, o in result.outcomes.items() if o.outcome == "failed"]
        lines += [f"{result.kernel}: {name}: {why}" for name, why in failed]
        running = [name for name, o in result.outcomes.items() if o.outcome == RUNNING]
        lines += [f"{result.kernel}: {name} did not end" for name in running]
        if result.ending.status is None:
            trouble, *_ = result.ending.trouble.splitlines()  # the rest was printed when it ended
            lines.append(f"{result.kernel}: {trouble}")
            lines += [f"    {line}" for line in result.output.splitlines()[-120:]]
        elif not result.good:
            lines.append(f"{result.kernel}: pytest ended with {result.ending.status}")
            lines += [f"    {line}" for line in result.output.splitlines()[-120:]]
    return lines
