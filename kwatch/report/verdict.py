# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process has leaked, and gives the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from os.path import basename
from typing import Protocol

from kwatch.model.frame import Ending, Frame
from kwatch.model.frame_roles import (
    is_allocator,
    is_application,
    is_kept_for_threads,
    is_kept_table,
    is_standard,
    is_wrapper,
    relevant_frames,
)
from kwatch.model.losses import buffer_helps
from kwatch.model.snapshot import Lost, StackStats, Verdict
from kwatch.symbols.stack import Stack
from kwatch.units import counted, format_size


class StackSymbolizer(Protocol):
    """Symbolizes stacks: see `kwatch.symbols.symbolizer.Symbolizer`."""

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        """All frames of each stack."""

    def first(self, stacks: Sequence[Stack], wanted: Callable[[Frame], bool]) -> list[Frame | None]:
        """The innermost frame of each stack that is `wanted`; None if there is none."""


@dataclass(frozen=True, slots=True)
class VerdictInput:
    """What the verdict depends on.

    `stacks`: all that hold blocks old enough to count, most bytes first, including those that are
    not listed. `program`: the path of the executable. `killed_by`: the signal that killed the
    process, if any. `lost`: the losses that affect the heap's numbers. `gap`: why they may not show
    everything; empty if they do.
    `has_events`: whether kwatch saw enough to judge by.
    """

    stacks: tuple[tuple[StackStats, Stack], ...]
    program: str
    exited: bool
    killed_by: str = ""
    lost: Lost = field(default_factory=Lost)
    gap: str = ""
    has_events: bool = True


#: Blocks of one stack, and the frame that allocated them (`is_caller`), if it is known.
_Outstanding = tuple[StackStats, Stack, Frame | None]


def judge(verdict_input: VerdictInput, symbolizer: StackSymbolizer) -> tuple[Verdict | None, str]:
    """The verdict on what is outstanding, and the reason in one sentence.

    None if there is nothing to judge.
    """
    if verdict_input.lost.events:
        return Verdict.UNSURE, _lost(verdict_input.lost)
    callers = symbolizer.first([stack for _, stack in verdict_input.stacks], is_caller)
    outstanding = [
        (*row, caller) for row, caller in zip(verdict_input.stacks, callers, strict=True)
    ]
    leaks = _leaks(outstanding, symbolizer, verdict_input.program)
    if leaks:
        (frames,) = symbolizer.frames([leaks[0][1]])
        place = _leaking_place(frames, verdict_input.program)
        return Verdict.LEAK, _describe([row for row, _ in leaks], place, verdict_input)
    if verdict_input.gap:
        return Verdict.UNSURE, verdict_input.gap
    unknown = [row for row, _, caller in outstanding if caller is None or not caller.module]
    if unknown:
        return Verdict.UNSURE, _not_known(unknown[0])
    if not verdict_input.has_events:
        return None, "nothing was allocated or freed while kwatch traced"
    if outstanding:
        return Verdict.CLEAN, "only blocks that system libraries keep are outstanding"
    return Verdict.CLEAN, "no outstanding block is old enough to count"


def _lost(lost: Lost) -> str:
    events = counted(lost.events, "event of the heap was", "events of the heap were")
    causes = ", ".join(cause.replace("_", " ") for cause in lost.by_cause)
    cure = "; a larger --buffer may help" if buffer_helps(lost) else ""
    return f"{events} lost ({causes}){cure}"


def _not_known(row: StackStats) -> str:
    if row.ending is Ending.OFF:
        return f"without stacks, kwatch cannot tell what allocated {_amount(row)}"
    return f"the caller that allocated {_amount(row)} is unknown"


def is_caller(frame: Frame) -> bool:
    """Whether a frame is outside the allocator: the innermost such frame made the allocation."""
    return not is_allocator(frame.symbol)


def _is_leak(stack: StackStats, caller: Frame, program: str) -> bool:
    """Whether the program itself allocated, or a library function with more than one block."""
    if is_kept_for_threads(caller.symbol):
        return False
    if stack.blocks >= 2:
        return True
    # Names with a leading underscore belong to the C runtime (C11 7.1.3). A static program contains
    # the start-up code, which keeps some blocks, in its own file.
    return is_application(caller, program) and not caller.symbol.startswith("_")


def _leaks(
    outstanding: Sequence[_Outstanding], symbolizer: StackSymbolizer, program: str
) -> list[tuple[StackStats, Stack]]:
    """The leaks, without blocks that the C library allocated for its own tables.

    A program may have very many stacks, so frames beyond the caller are named only if the C library
    may have called the allocator.
    """

    def is_programs(frame: Frame) -> bool:
        return is_application(frame, program) and not frame.symbol.startswith("_")

    def decides(frame: Frame) -> bool:
        return is_kept_table(frame.symbol) or (is_caller(frame) and is_programs(frame))

    found = [each for each in outstanding if each[2] and _is_leak(each[0], each[2], program)]
    unsettled = [(row, stack) for row, stack, caller in found if caller and not is_programs(caller)]
    deciding = symbolizer.first([stack for _, stack in unsettled], decides)
    tables = {
        row.stack
        for (row, _), frame in zip(unsettled, deciding, strict=True)
        if frame and is_kept_table(frame.symbol)
    }
    return [(row, stack) for row, stack, _ in found if row.stack not in tables]


def _leaking_place(frames: Sequence[Frame], program: str) -> str:
    """The place in the program that led to the allocation, as its author would look for it.

    In a program that wraps the allocator, every stack begins with the wrapper: its caller says
    more. The library function that the program called is named as well.
    """
    callers = list(filter(is_caller, frames))
    own = [
        f for f in relevant_frames(frames) if not is_standard(f) and is_application(f, program)
    ] or callers
    if not own:
        return _place(None)
    caller = next(dropwhile(is_wrapper, own), own[0])
    means = own[0] if caller is not own[0] else _called(caller, frames)
    return f"{_place(caller)} through {_place(means)}" if means else _place(caller)


def _called(caller: Frame, frames: Sequence[Frame]) -> Frame | None:
    """The library function that the caller called, if it did not call the allocator directly."""
    at = frames.index(caller)
    called = frames[at - 1] if at else None
    if called is None or not called.symbol or not is_caller(called) or is_standard(called):
        return None
    return called


def _describe(leaks: Sequence[StackStats], place: str, verdict_input: VerdictInput) -> str:
    largest = leaks[0]
    ending = "were never freed" if verdict_input.exited else "are still not freed"
    if verdict_input.killed_by:
        ending = f"were not freed before {verdict_input.killed_by}"
    if largest.blocks == 1:
        ending = ending.replace("were", "was").replace("are", "is")
    others = len(leaks) - 1
    more = f", and more from {others:,} other stack{'s' * (others > 1)}" if others else ""
    return f"{_amount(largest)} from {place} {ending}{more}"


def _amount(stack: StackStats) -> str:
    return f"{counted(stack.blocks, 'block')} ({format_size(stack.bytes)})"


def _place(frame: Frame | None) -> str:
    if frame is None:
        return "an unknown place"
    module = basename(frame.module)
    if not frame.symbol:
        return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"
    where = f"{basename(frame.file)}:{frame.line}" if frame.file else module
    return f"{frame.symbol} ({where})" if where else frame.symbol
