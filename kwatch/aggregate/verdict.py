# SPDX-License-Identifier: Apache-2.0
"""Says whether a process has leaked, and why one may think so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import dropwhile
from os.path import basename

from kwatch.runtime import is_allocator, is_kept_for_threads, is_standard, is_wrapper, telling
from kwatch.snapshot import Frame, StackStats, Verdict
from kwatch.units import format_size

_SYSTEM_LIBRARIES = tuple(
    f"{root}/{folder}/" for root in ("", "/usr") for folder in ("lib", "lib64", "lib32", "libx32")
)

#: Blocks by stack, and the frame that allocated them (`is_caller`), if it is known.
Outstanding = tuple[StackStats, Frame | None]


def judge(
    stacks: Sequence[Outstanding],
    frames_of: Callable[[StackStats], Sequence[Frame]],
    *,
    program: str,
    exited: bool,
    lost_heap_events: int = 0,
    gap: str = "",
) -> tuple[Verdict, str]:
    """The verdict on what is outstanding, and the reason in one sentence.

    `stacks`: all that hold blocks which are old enough to count, most bytes first; what a listing
    cuts off is judged, too. `frames_of` gives all frames of one of them. `program` is the path of
    the process's executable; `gap` says why some of the heap may not have been seen, if so.
    """
    if lost_heap_events:
        noun = "event was" if lost_heap_events == 1 else "events were"
        return (
            Verdict.UNSURE,
            f"{lost_heap_events:,} {noun} lost on which its heap may depend",
        )
    leaks = [stack for stack, caller in stacks if _is_leak(stack, caller, program)]
    if leaks:
        place = _leaking_place(frames_of(leaks[0]), program)
        return Verdict.LEAK, _describe(leaks, place, exited)
    if gap:
        return Verdict.UNSURE, gap
    unknown = [stack for stack, caller in stacks if caller is None or not caller.module]
    if unknown:
        return Verdict.UNSURE, f"nothing tells who allocated {_amount(unknown[0])}"
    if stacks:
        return Verdict.CLEAN, "what is left are blocks that system libraries keep"
    return Verdict.CLEAN, "no block that is old enough to count is outstanding"


def is_caller(frame: Frame) -> bool:
    """Whether a frame is not of the allocator: the innermost such frame is who allocates."""
    return not is_allocator(frame.symbol)


def _is_leak(stack: StackStats, caller: Frame | None, program: str) -> bool:
    """The program's own, or a library function that was called more than once."""
    if caller is None or is_kept_for_threads(caller.symbol):
        return False
    if stack.blocks >= 2:
        return True
    # Names that begin with an underscore are the C runtime's (C11 7.1.3): a static program has
    # its start-up code, with what that keeps, in its own file.
    return _is_own(caller.module, program) and not caller.symbol.startswith("_")


def _is_own(module: str, program: str) -> bool:
    if not module:
        return False
    return module == program or not module.startswith(_SYSTEM_LIBRARIES)


def _leaking_place(frames: Sequence[Frame], program: str) -> str:
    """Where the program itself called what allocated, as its author would look for it.

    A wrapper of the allocator is what every stack of such a program begins with; who called it
    tells more.
    """
    own = [f for f in telling(frames) if not is_standard(f) and _is_own(f.module, program)]
    callers = own or list(filter(is_caller, frames))
    caller = next(dropwhile(is_wrapper, callers), None)
    if caller is None or caller is callers[0]:
        return _place(callers[0] if callers else None)
    return f"{_place(caller)} by way of {_place(callers[0])}"


def _describe(leaks: Sequence[StackStats], place: str, exited: bool) -> str:
    largest = leaks[0]
    ending = "were never freed" if exited else "are still not freed"
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
