# SPDX-License-Identifier: Apache-2.0
"""The call stacks that the system calls of one process come from, for people."""

from __future__ import annotations

from kwatch.model.snapshot import CallStackStats, SyscallSummary
from kwatch.sinks.table.differences import distinct_texts
from kwatch.sinks.table.screen import Screen, cell
from kwatch.sinks.table.stacks import INDENT, Marks, StackText
from kwatch.units import format_ns

_HEADERS = ("TOTAL", "CALLS", "ERRORS")


def call_stack_lines(syscalls: SyscallSummary, screen: Screen, full: bool = False) -> list[str]:
    """The stacks that took most time: the system call, then its callers, innermost first."""
    if not syscalls.stacks:
        return []
    cells = [_cells(s.total_ns, s.calls, s.errors) for s in syscalls.stacks]
    cells += _unlisted(syscalls, syscalls.stacks)
    room = screen.room_beside(_HEADERS, cells)
    places = _places(syscalls.stacks, screen, room, full)
    places += [screen.clip("(other stacks, beyond --top)", room)] * (len(cells) - len(places))
    rows = [[*row, place] for row, place in zip(cells, places, strict=True)]
    return screen.table([*_HEADERS, "WHERE"], rows, left="WHERE")


def _places(stacks: tuple[CallStackStats, ...], screen: Screen, room: int, full: bool) -> list[str]:
    text = StackText(screen, room - len(INDENT), full)

    def place(stack: CallStackStats, marks: Marks) -> str:
        frames = text.lines(stack.frames, stack.ending, marks)
        return "\n".join([screen.clip(stack.name, room), *(INDENT + line for line in frames)])

    return distinct_texts(stacks, place)


def _cells(total_ns: int, calls: int, errors: int) -> list[str]:
    return [format_ns(total_ns), cell(calls), cell(errors) if errors else ""]


def _unlisted(syscalls: SyscallSummary, listed: tuple[CallStackStats, ...]) -> list[list[str]]:
    """The calls from other stacks, so that the columns add up."""
    calls = syscalls.calls - sum(stack.calls for stack in listed)
    errors = syscalls.errors - sum(stack.errors for stack in listed)
    total_ns = sum(s.total_ns for s in syscalls.by_name) - sum(s.total_ns for s in listed)
    return [_cells(total_ns, calls, errors)] if calls else []
