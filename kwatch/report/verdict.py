# SPDX-License-Identifier: Apache-2.0
"""Says whether a process has leaked, and why one may think so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import dropwhile
from os.path import basename

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
from kwatch.model.snapshot import StackStats, Verdict
from kwatch.units import format_size

#: Blocks by stack, and the frame that allocated them (`is_caller`), if it is known.
Outstanding = tuple[StackStats, Frame | None]


#: Of each stack the innermost frame that is wanted; None if there is none.
First = Callable[[Sequence[StackStats], Callable[[Frame], bool]], Sequence[Frame | None]]


def judge(
    stacks: Sequence[Outstanding],
    frames_of: Callable[[StackStats], Sequence[Frame]],
    first: First,
    *,
    program: str,
    exited: bool,
    killed_by: str = "",
    lost_heap_events: int = 0,
    gap: str = "",
) -> tuple[Verdict, str]:
    """The verdict on what is outstanding, and the reason in one sentence.

    `stacks`: all that hold blocks which are old enough to count, most bytes first; what a listing
    cuts off is judged, too. `frames_of` gives all frames of one of them, `first` one frame of many.
    `program` is the path of the process's executable, `killed_by` the signal that ended it, if one
    did; `gap` says why some of the heap may not have been seen, if so.
    """
    if lost_heap_events:
        noun = "event was" if lost_heap_events == 1 else "events were"
        return (
            Verdict.UNSURE,
            f"{lost_heap_events:,} {noun} lost on which its heap may depend",
        )
    leaks = _leaks(stacks, first, program)
    if leaks:
        place = _leaking_place(frames_of(leaks[0]), program)
        return Verdict.LEAK, _describe(leaks, place, exited, killed_by)
    if gap:
        return Verdict.UNSURE, gap
    unknown = [stack for stack, caller in stacks if caller is None or not caller.module]
    if unknown:
        without = "without stacks " * (unknown[0].ending is Ending.OFF)
        return Verdict.UNSURE, f"{without}nothing tells who allocated {_amount(unknown[0])}"
    if stacks:
        return Verdict.CLEAN, "what is left are blocks that system libraries keep"
    return Verdict.CLEAN, "no block that is old enough to count is outstanding"


def is_caller(frame: Frame) -> bool:
    """Whether a frame is not of the allocator: the innermost such frame is who allocates."""
    return not is_allocator(frame.symbol)


def _is_leak(stack: StackStats, caller: Frame, program: str) -> bool:
    """The program's own, or a library function that was called more than once."""
    if is_kept_for_threads(caller.symbol):
        return False
    if stack.blocks >= 2:
        return True
    # Names that begin with an underscore are the C runtime's (C11 7.1.3): a static program has
    # its start-up code, with what that keeps, in its own file.
    return is_application(caller, program) and not caller.symbol.startswith("_")


def _leaks(stacks: Sequence[Outstanding], first: First, program: str) -> list[StackStats]:
    """Those that are leaks, without what the C library has allocated for tables of its own.

    Only where the C library may have called the allocator more names are looked for than the
    callers': a program may have very many stacks.
    """

    def is_programs(frame: Frame) -> bool:
        return is_application(frame, program) and not frame.symbol.startswith("_")

    def decides(frame: Frame) -> bool:
        return is_kept_table(frame.symbol) or (is_caller(frame) and is_programs(frame))

    found = [(s, c) for s, c in stacks if c is not None and _is_leak(s, c, program)]
    unsettled = [stack for stack, caller in found if not is_programs(caller)]
    deciding = zip(unsettled, first(unsettled, decides), strict=True)
    tables = {s.stack for s, frame in deciding if frame and is_kept_table(frame.symbol)}
    return [stack for stack, _ in found if stack.stack not in tables]


def _leaking_place(frames: Sequence[Frame], program: str) -> str:
    """Where the program itself called what allocated, as its author would look for it.

    A wrapper of the allocator is what every stack of such a program begins with; who called it
    tells more. So does what a library was called for.
    """
    callers = list(filter(is_caller, frames))
    own = [
        f for f in relevant_frames(frames) if not is_standard(f) and is_application(f, program)
    ] or callers
    if not own:
        return _place(None)
    caller = next(dropwhile(is_wrapper, own), own[0])
    means = own[0] if caller is not own[0] else _called(caller, frames)
    return f"{_place(caller)} by way of {_place(means)}" if means else _place(caller)


def _called(caller: Frame, frames: Sequence[Frame]) -> Frame | None:
    """The library function that it called, if it did not call the allocator itself."""
    at = frames.index(caller)
    called = frames[at - 1] if at else None
    if called is None or not called.symbol or not is_caller(called) or is_standard(called):
        return None
    return called


def _describe(leaks: Sequence[StackStats], place: str, exited: bool, killed_by: str) -> str:
    largest = leaks[0]
    ending = "were never freed" if exited else "are still not freed"
    if killed_by:
        ending = f"were not freed before {killed_by}"
    if largest.blocks == 1:
        ending = ending.replace("were", "was").replace("are", "is")
    others = len(leaks) - 1
    more = f", and more from {others:,} other stack{'s' * (others > 1)}" if others else ""
    return f"{_amount(largest)} from {place} {ending}{more}"


def _amount(stack: StackStats) -> str:
    noun = "block" if stack.blocks == 1 else "blocks"
    return f"{stack.blocks:,} {noun} ({format_size(stack.bytes)})"


def _place(frame: Frame | None) -> str:
    if frame is None:
        return "an unknown place"
    module = basename(frame.module)
    if not frame.symbol:
        return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"
    where = f"{basename(frame.file)}:{frame.line}" if frame.file else module
    return f"{frame.symbol} ({where})" if where else frame.symbol
