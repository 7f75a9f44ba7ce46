# SPDX-License-Identifier: Apache-2.0
"""The system calls of one process for people, as `strace -c` shows them."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.snapshot import SyscallStats, SyscallSummary
from kwatch.sinks.table.screen import Screen, cell
from kwatch.units import format_ns

MAX_ROWS = 15
_HEADERS = ("NAME", "CALLS", "ERRORS", "TOTAL", "P50", "P99", "MAX")


def syscall_lines(syscalls: SyscallSummary, screen: Screen) -> list[str]:
    """The names that took most time, the others in one row, and the totals."""
    finished = [stats for stats in syscalls.by_name if stats.calls]
    lines = _table(syscalls, finished, screen) if finished else []
    unfinished = unfinished_text(syscalls)
    return lines + (screen.paragraph(unfinished) if unfinished else [])


def unfinished_text(syscalls: SyscallSummary) -> str:
    """`unfinished: futex 2, read 1 (earlier)`; empty if there are none."""
    pending = [_pending(stats) for stats in syscalls.by_name if stats.unfinished]
    return f"unfinished: {', '.join(pending)}" if pending else ""


def _pending(stats: SyscallStats) -> str:
    text = f"{stats.name} {stats.unfinished:,}"
    if not stats.began_earlier:
        return text
    some = f"{stats.began_earlier:,} " if stats.began_earlier < stats.unfinished else ""
    return f"{text} ({some}earlier)"


def _table(syscalls: SyscallSummary, finished: Sequence[SyscallStats], screen: Screen) -> list[str]:
    limit = MAX_ROWS if len(finished) > MAX_ROWS + 1 else len(finished)  # no row `(1 more)`
    cells = [_cells(stats) for stats in finished[:limit]]
    names = [stats.name for stats in finished[:limit]]
    if rest := finished[limit:]:
        names.append(f"({len(rest)} more)")
        cells.append(_sums(sum(s.calls for s in rest), sum(s.errors for s in rest), rest))
    names.append("total")
    cells.append(_sums(syscalls.calls, syscalls.errors, finished))
    headers, cells = _fitted(cells, screen)
    room = screen.room_beside(headers, cells)
    rows = [[screen.clip(name, room), *row] for name, row in zip(names, cells, strict=True)]
    return screen.table([_HEADERS[0], *headers], rows, left="NAME")


def _fitted(cells: list[list[str]], screen: Screen) -> tuple[list[str], list[list[str]]]:
    """Leaves out percentiles where the terminal is too narrow for all columns."""
    headers = list(_HEADERS[1:])
    for percentile in ("P50", "P99"):
        if screen.has_room_beside(headers, cells):
            break
        index = headers.index(percentile)
        headers = [*headers[:index], *headers[index + 1 :]]
        cells = [[*row[:index], *row[index + 1 :]] for row in cells]
    return headers, cells


def _cells(stats: SyscallStats) -> list[str]:
    times = (stats.total_ns, stats.p50_ns, stats.p99_ns, stats.max_ns)
    return [cell(stats.calls), _errors(stats.errors), *map(format_ns, times)]


def _sums(calls: int, errors: int, stats: Sequence[SyscallStats]) -> list[str]:
    total_ns = sum(one.total_ns for one in stats)
    return [cell(calls), _errors(errors), format_ns(total_ns), "", "", ""]


def _errors(count: int) -> str:
    """Blank for none, as in `strace -c`: the errors that there are stand out."""
    return cell(count) if count else ""
