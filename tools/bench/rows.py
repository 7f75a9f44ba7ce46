# SPDX-License-Identifier: Apache-2.0
"""The rows of the result, as a table for the terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from tabulate import tabulate

_HEADERS = ("bench", "measure", "result", "limit", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `limit` is its maximum, or its minimum with `at_least`."""

    bench: str
    measure: str
    value: float | None = None
    unit: str = ""
    limit: float | None = None
    at_least: bool = False
    note: str = ""
    failed: bool = False

    @property
    def is_over(self) -> bool:
        if self.limit is None or self.value is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit

    @property
    def verdict(self) -> str:
        if self.failed:
            return "failed"
        if self.limit is None or self.value is None:
            return ""
        return "over" if self.is_over else "ok"

    def cells(self) -> tuple[str, ...]:
        result = "" if self.value is None else f"{number(self.value)} {self.unit}".strip()
        if self.note:
            result = f"{result} ({self.note})" if result else self.note
        limit = ""
        if self.limit is not None:
            limit = f"{'>=' if self.at_least else '<='} {number(self.limit)} {self.unit}".strip()
        return (self.bench, self.measure, result, limit, self.verdict)


def number(value: float) -> str:
    """Three significant digits; whole numbers have all digits."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def ratio(
    bench: str,
    measure: str,
    over: list[float],
    under: list[float],
    limit: float | None = None,
    at_least: bool = False,
) -> Row:
    """The median of the rounds' ratios, with their range."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    spread = f"{number(min(ratios))} to {number(max(ratios))}"
    return Row(bench, measure, median(ratios), "x", limit, at_least, spread)


def table(rows: Iterable[Row], markdown: bool) -> str:
    return tabulate(
        [row.cells() for row in rows],
        headers=_HEADERS,
        tablefmt="github" if markdown else "simple",
        disable_numparse=True,
    )
