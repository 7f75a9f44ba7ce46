# SPDX-License-Identifier: Apache-2.0
"""The table of verdicts, and its sums."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

from confusion.service import Service
from confusion.watch import Result

_WIDTH = 100
_FOUND = ("leak", "growing")  # the verdicts that a service which holds ever more should get


@dataclass(frozen=True, slots=True)
class Row:
    """`error`: why there is no result."""

    service: Service
    result: Result | None
    error: str = ""

    @property
    def judgement(self) -> str:
        """right, wrong or unsure; `elsewhere`: a leak or growth is told of, but not this one."""
        if self.result is None:
            return "failed"
        if self.result.verdict == "unsure":
            return "unsure"
        if (self.result.verdict in _FOUND) != self.service.leaks:
            return "wrong"
        if not self.service.leaks:
            return "right"
        found = re.search(self.service.fault, self.result.reason, re.IGNORECASE)
        return "right" if found else "elsewhere"

    @property
    def lines(self) -> str:
        truth = "leaks" if self.service.leaks else "healthy"
        if self.result is None:
            return f"{self.service.name:22} {truth:8} {'-':7} failed: {self.error}"
        head = f"{self.service.name:22} {truth:8} {self.result.verdict:7} {self.judgement}"
        held = f"holds {self.result.held_before:,} to {self.result.held_after:,}"
        indent = " " * 4
        reason = fill(self.result.reason, _WIDTH, initial_indent=indent, subsequent_indent=indent)
        return f"{head}   ({held} {self.service.unit})\n{reason}"


def sums(rows: Sequence[Row]) -> str:
    """One line for each truth and verdict."""
    counts = Counter(
        (row.service.leaks, row.result.verdict if row.result else "failed") for row in rows
    )
    lines = []
    for leaks in (False, True):
        said = [
            f"{verdict} {counts[leaks, verdict]}"
            for verdict in ("clean", "none", "leak", "growing", "unsure", "failed")
        ]
        lines.append(f"{'leaking' if leaks else 'healthy'}: {', '.join(said)}")
    elsewhere = sum(row.judgement == "elsewhere" for row in rows)
    lines.append(f"leaking, but another reason was given: {elsewhere}")
    return "\n".join(lines)
