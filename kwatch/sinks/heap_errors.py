# SPDX-License-Identifier: Apache-2.0
"""Errors in the use of the heap, as text in valgrind's words and as JSON (see docs/check.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from kwatch.model.frame import Ending, Frame
from kwatch.model.frame_roles import is_start_up
from kwatch.model.heap_error import TITLES, CheckSummary, ErrorStack, HeapError, StackRole
from kwatch.model.losses import cures
from kwatch.sinks.frame_text import frame_text, stack_texts
from kwatch.sinks.jsonl import members, text_of
from kwatch.units import counted

_HEADINGS = {StackRole.ALLOCATED: "Block was alloc'd at", StackRole.FREED: "Block was free'd at"}

#: What a release that could not be judged may be, by kwatch.memory_errors.judge.Doubt.
_DOUBTS = {
    "older": "of blocks whose allocation was not seen",
    "lost": "after events were lost",
    "unprobed": "in a heap that is not seen as a whole",
    "skipped": "because there were too many suspects at once",
    "thread_end": "at the end of a thread, whose cache the C library empties",
    "no_stack": "because their stacks were lost, and threads that end make such releases, too",
}


def error_text(error: HeapError) -> str:
    """Lines for a terminal; the last one is empty."""
    clock = datetime.fromisoformat(error.time).astimezone()
    process = error.process
    thread = f" thread {error.tid}" if error.tid != process.pid else ""
    times = f" ({error.count:,} times)" if error.count > 1 else ""
    first, *others = error.stacks
    lines = [
        f"[{clock:%H:%M:%S}] {process.comm}[{process.pid}]{thread}",
        f"{TITLES[error.error]}{times}",
        *_stack_lines(first),
        f"  {error.message}",
    ]
    for index, stack in enumerate(others):
        if index or stack.role is StackRole.ALLOCATED is not _subject(error):
            lines.append(f"  {_HEADINGS[stack.role]}{_thread(stack, error)}")
        lines += _stack_lines(stack)
    return "\n".join([*lines, "", ""])


def _subject(error: HeapError) -> StackRole:
    """The stack that the message introduces."""
    return (
        StackRole.FREED if error.message.endswith(("free'd", "by realloc")) else StackRole.ALLOCATED
    )


def _thread(stack: ErrorStack, error: HeapError) -> str:
    return f" by thread {stack.tid}" if stack.tid != error.tid else ""


def _stack_lines(stack: ErrorStack) -> Iterator[str]:
    yield f"    at {stack.function}"
    frames = [frame_text(frame) for frame in _own(stack.frames)]
    for text in frames:
        yield f"    by {text}"
    if stack.ending is Ending.OFF and frames:
        yield "    [its callers were not recorded]"
    else:
        yield from (f"    {note}" for note in stack_texts(frames, stack.ending)[len(frames) :])


def _own(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Without the start-up code around main()."""
    end = len(frames)
    while end > 1 and is_start_up(frames[end - 1].symbol):
        end -= 1
    return frames[:end]


def summary_text(summary: CheckSummary) -> str:
    """The errors of a process, each with its count, and what could not be judged."""
    process = summary.process
    errors = counted(sum(error.count for error in summary.errors), "error")
    kinds = f" of {len(summary.errors):,} kinds" if len(summary.errors) > 1 else ""
    line = (
        f"{process.comm}[{process.pid}]: {errors}{kinds} in {counted(summary.releases, 'release')}"
    )
    lines = [line, *_doubt_lines(summary.unknown)]
    if summary.lost.events:
        advice = "".join(f"; {cure}" for cure in cures(summary.lost))
        lines.append(f"  lost {summary.lost.events:,} events, which may hide errors{advice}")
    return "\n".join([*lines, ""])


def _doubt_lines(unknown: Mapping[str, int]) -> Iterator[str]:
    for doubt, count in unknown.items():
        yield f"  {count:,} not judged: {_DOUBTS[doubt]}"


def error_json(error: HeapError) -> str:
    return text_of({"kind": "error", **_error(error)}) + "\n"


def summary_json(summary: CheckSummary) -> str:
    errors = [_error(error) for error in summary.errors]
    return text_of({"kind": "final", **members(summary), "errors": errors}) + "\n"


def _error(error: HeapError) -> dict[str, object]:
    stacks = [
        members(stack) | {"frames": [_frame(frame) for frame in stack.frames]}
        for stack in error.stacks
    ]
    return members(error) | {"address": hex(error.address), "stacks": stacks}


def _frame(frame: Frame) -> dict[str, object]:
    return members(frame) | {"address": hex(frame.address)}
