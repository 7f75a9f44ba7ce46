# SPDX-License-Identifier: Apache-2.0
"""The system calls of one process for people, as `strace -c` shows them."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.snapshot import SyscallStats, SyscallSummary
from kwatch.sinks.table.screen import Screen, cell
from kwatch.units import format_ns

MAX_ROWS = 15
_HEADERS = ("NAME", "CALLS", "ERRORS", "TOTAL", "SHARE", "AVG", "P50", "P99", "MAX")
_LEAST_NEEDED = ("P50", "AVG", "P99", "SHARE")
_SEVERAL_THREADS = "TOTAL adds up the times of several threads"


def syscall_lines(syscalls: SyscallSummary, elapsed_s: float, screen: Screen) -> list[str]:
    """The names that took most time, the others in one row, and the totals.

    One thread cannot spend more than `elapsed_s`, the time since the attach.
    """
    finished = [stats for stats in syscalls.by_name if stats.calls]
    lines = _table(finished, screen) if finished else []
    if _time(finished) > elapsed_s * 1e9:
        lines += screen.paragraph(_SEVERAL_THREADS)
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


def _table(finished: Sequence[SyscallStats], screen: Screen) -> list[str]:
    limit = MAX_ROWS if len(finished) > MAX_ROWS + 1 else len(finished)  # no row `(1 more)`
    whole_ns = _time(finished)
    cells = [_cells(stats, whole_ns) for stats in finished[:limit]]
    names = [stats.name for stats in finished[:limit]]
    if rest := finished[limit:]:
        names.append(f"({len(rest)} more)")
        cells.append(_sums(rest, whole_ns))
    names.append("total")
    cells.append(_sums(finished, whole_ns))
    headers, cells = _fitted(cells, screen)
    room = screen.room_beside(headers, cells)
    rows = [[screen.clip(name, room), *row] for name, row in zip(names, cells, strict=True)]
    return screen.table([_HEADERS[0], *headers], rows, left="NAME")


def _fitted(cells: list[list[str]], screen: Screen) -> tuple[list[str], list[list[str]]]:
    """Leaves out columns where the terminal is too narrow for all."""
    headers = list(_HEADERS[1:])
    for column in _LEAST_NEEDED:
        if screen.has_room_beside(headers, cells):
            break
        index = headers.index(column)
        headers = [*headers[:index], *headers[index + 1 :]]
        cells = [[*row[:index], *row[index + 1 :]] for row in cells]
    return headers, cells


def _cells(stats: SyscallStats, whole_ns: int) -> list[str]:
    percentiles = stats.p50_ns, stats.p99_ns, stats.max_ns
    return [*_sums([stats], whole_ns)[:5], *map(format_ns, percentiles)]


def _sums(stats: Sequence[SyscallStats], whole_ns: int) -> list[str]:
    calls, total_ns = sum(one.calls for one in stats), _time(stats)
    share = f"{total_ns / whole_ns:.1%}" if whole_ns else ""
    counts = cell(calls), _errors(sum(one.errors for one in stats))
    return [*counts, format_ns(total_ns), share, format_ns(total_ns // calls), "", "", ""]


def _time(stats: Sequence[SyscallStats]) -> int:
    return sum(one.total_ns for one in stats)


def _errors(count: int) -> str:
    """Blank for none, as in `strace -c`: the errors that there are stand out."""
    return cell(count) if count else ""
