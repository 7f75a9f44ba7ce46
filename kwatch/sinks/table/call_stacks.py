# SPDX-License-Identifier: Apache-2.0
"""Where the system calls of one process come from, for people."""

from __future__ import annotations

from kwatch.model.snapshot import CallStackStats, SyscallSummary
from kwatch.sinks.table.screen import Screen, cell
from kwatch.sinks.table.stacks import where
from kwatch.units import format_ns

_HEADERS = ("TOTAL", "CALLS", "ERRORS")
_INDENT = "  "


def call_stack_lines(syscalls: SyscallSummary, screen: Screen, full: bool = False) -> list[str]:
    """The stacks that took most time: each call, who has made it, and so on outwards."""
    if not syscalls.stacks:
        return []
    cells = [_cells(s.total_ns, s.calls, s.errors) for s in syscalls.stacks]
    cells += _unlisted(syscalls, syscalls.stacks)
    room = screen.room_beside(_HEADERS, cells)
    places = [_place(stack, screen, room, full) for stack in syscalls.stacks]
    places += ["(beyond --top)"] * (len(cells) - len(places))
    rows = [[*row, place] for row, place in zip(cells, places, strict=True)]
    return screen.table([*_HEADERS, "WHERE"], rows, left="WHERE")


def _place(stack: CallStackStats, screen: Screen, room: int, full: bool) -> str:
    frames = where(stack.frames, stack.ending, screen, room - len(_INDENT), full)
    return "\n".join([screen.clip(stack.name, room), *(_INDENT + line for line in frames)])


def _cells(total_ns: int, calls: int, errors: int) -> list[str]:
    return [format_ns(total_ns), cell(calls), cell(errors) if errors else ""]


def _unlisted(syscalls: SyscallSummary, listed: tuple[CallStackStats, ...]) -> list[list[str]]:
    """The calls from other stacks, so that the columns add up."""
    calls = syscalls.calls - sum(stack.calls for stack in listed)
    errors = syscalls.errors - sum(stack.errors for stack in listed)
    total_ns = sum(s.total_ns for s in syscalls.by_name) - sum(s.total_ns for s in listed)
    return [_cells(total_ns, calls, errors)] if calls else []
