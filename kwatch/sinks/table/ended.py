# SPDX-License-Identifier: Apache-2.0
"""The processes that have ended, by name, for people."""

from __future__ import annotations

from kwatch.model.snapshot import EndedStats, EndedSummary
from kwatch.sinks.table.screen import Screen, cell
from kwatch.units import counted, format_ns

_HEADERS = ("NAME", "ENDED", "SKIPPED", "CALLS", "ERRORS", "TOTAL")


def ended_lines(summary: EndedSummary, screen: Screen) -> list[str]:
    """One row for each name; SKIPPED only if there were too many processes to follow."""
    lines = screen.paragraph("processes that have ended since the attach, by name:")
    cells = [_cells(one) for one in summary.names]
    left = [number for number, _ in enumerate(_HEADERS[1:]) if any(row[number] for row in cells)]
    headers = [_HEADERS[1:][number] for number in left]
    cells = [[row[number] for number in left] for row in cells]
    room = screen.room_beside(headers, cells)
    rows = [
        [screen.clip(one.comm, room), *row] for one, row in zip(summary.names, cells, strict=True)
    ]
    lines += screen.table([_HEADERS[0], *headers], rows, left=_HEADERS[0])
    if summary.other_names:
        lines.append(f"({counted(summary.other_names, 'more name', 'more names')})")
    return lines


def _cells(one: EndedStats) -> list[str]:
    """Blank for zeros; a column of blanks is left out."""
    counts = [one.processes, one.skipped]
    calls = one.syscalls
    if calls is None:
        return [*map(_count, counts), "", "", ""]
    counts += [calls.calls, calls.errors]
    total_ns = sum(stats.total_ns for stats in calls.by_name)
    return [*map(_count, counts), format_ns(total_ns)]


def _count(count: int) -> str:
    return cell(count) if count else ""
