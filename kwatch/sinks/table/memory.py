# SPDX-License-Identifier: Apache-2.0
"""The memory and the descriptors that one process has got from the kernel, for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile

from kwatch.model.frame import Frame
from kwatch.model.snapshot import Descriptors, MemoryStats, StackStats
from kwatch.sinks.table.screen import Screen, cell
from kwatch.sinks.table.stacks import StackText
from kwatch.units import counted, format_growth, format_seconds, format_size

_MIN_LISTED = 1 << 20  # bytes; smaller mappings are in the sum and in JSON
_MIN_GROWTH = 1 << 20  # bytes of anonymous memory
_CALLS = frozenset(["mmap", "mmap64", "__mmap", "__mmap64", "__GI___mmap64", "mremap", "syscall"])
_HEADERS = ("BYTES", "MAPPINGS", "AGE")


def memory_lines(
    memory: MemoryStats | None,
    descriptors: Descriptors | None,
    screen: Screen,
    full_stacks: bool = False,
) -> list[str]:
    """Empty if nothing has changed since the attach."""
    lines = []
    if memory is not None:
        lines += screen.paragraph(_summary(memory))
        lines += _stack_lines(memory, screen, full_stacks)
    if descriptors is not None and descriptors.growth:
        lines.append(f"descriptors: {descriptors.open:,} open (+{descriptors.growth:,})")
    return lines


def _summary(memory: MemoryStats) -> str:
    parts = []
    if memory.mappings:
        parts.append(f"{format_size(memory.mapped_bytes)} in {counted(memory.mappings, 'mapping')}")
    if memory.brk_bytes:
        parts.append(f"brk {format_growth(memory.brk_bytes)}")
    text = ", ".join(parts)
    if memory.brk_bytes or memory.mapped_bytes > memory.own_bytes:
        text += " (includes the heap)"
    if memory.anonymous_growth >= _MIN_GROWTH:
        text += "; " * bool(text) + f"anonymous {format_growth(memory.anonymous_growth)}"
    if memory.unseen_bytes:
        text += f", {format_size(memory.unseen_bytes)} of it from no probed allocator"
    return f"memory: {text}" if text else ""


def _stack_lines(memory: MemoryStats, screen: Screen, full: bool) -> list[str]:
    """The mappings that the program made itself, by stack."""
    stacks = [stack for stack in memory.stacks if stack.bytes >= _MIN_LISTED]
    if not stacks:
        return []
    rows = [_row(stack) for stack in stacks]
    text = StackText(screen, screen.room_beside(_HEADERS, rows), full)
    places = ["\n".join(text.lines(_callers(stack, full), stack.ending)) for stack in stacks]
    table = [[*row, place] for row, place in zip(rows, places, strict=True)]
    return screen.table([*_HEADERS, "MAPPED BY"], table, left="MAPPED BY")


def _callers(stack: StackStats, full: bool) -> Sequence[Frame]:
    """The frames without those of the system call's wrapper."""
    if full:
        return stack.frames
    return tuple(dropwhile(lambda frame: frame.symbol in _CALLS, stack.frames)) or stack.frames


def _row(stack: StackStats) -> list[str]:
    return [format_size(stack.bytes), cell(stack.blocks), format_seconds(stack.oldest_s)]
