# SPDX-License-Identifier: Apache-2.0
"""Says whether a process has leaked, and why one may think so."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import basename

from kwatch.runtime import is_allocator, is_kept_for_threads, is_standard, telling
from kwatch.snapshot import Frame, HeapStats, StackStats, Verdict
from kwatch.units import format_size

_SYSTEM_LIBRARIES = tuple(
    f"{root}/{folder}/" for root in ("", "/usr") for folder in ("lib", "lib64", "lib32", "libx32")
)


def judge(
    heap: HeapStats,
    *,
    program: str,
    exited: bool,
    lost_heap_events: int = 0,
    gap: str = "",
) -> tuple[Verdict, str]:
    """The verdict on `heap.stacks`, and the reason in one sentence.

    The stacks are with frames, all that are old enough to count: what `top` cut off is not judged.
    `program` is the path of the process's executable; `gap` says why some of the heap may not have
    been seen, if so.
    """
    if lost_heap_events:
        return (
            Verdict.UNSURE,
            f"{lost_heap_events} heap events were lost, so any count may be wrong",
        )
    leaks = [stack for stack in heap.stacks if _is_leak(stack, program)]
    if leaks:
        return Verdict.LEAK, _describe(leaks, program, exited)
    if gap:
        return Verdict.UNSURE, gap
    unknown = [stack for stack in heap.stacks if not _is_known(stack)]
    if unknown:
        return Verdict.UNSURE, f"nothing tells who allocated {_amount(unknown[0])}"
    if heap.stacks:
        return Verdict.CLEAN, "what is left are blocks that system libraries keep"
    return Verdict.CLEAN, "no block that is old enough to count is outstanding"


def _is_known(stack: StackStats) -> bool:
    frame = _allocating_frame(stack.frames)
    return frame is not None and bool(frame.module)


def _is_leak(stack: StackStats, program: str) -> bool:
    """The program's own, or a library function that was called more than once."""
    frame = _allocating_frame(stack.frames)
    if frame is None or is_kept_for_threads(frame.symbol):
        return False
    if stack.blocks >= 2:
        return True
    # Names that begin with an underscore are the C runtime's (C11 7.1.3): a static program has
    # its start-up code, with what that keeps, in its own file.
    return _is_own(frame.module, program) and not frame.symbol.startswith("_")


def _is_own(module: str, program: str) -> bool:
    if not module:
        return False
    return module == program or not module.startswith(_SYSTEM_LIBRARIES)


def _allocating_frame(frames: Sequence[Frame]) -> Frame | None:
    """The innermost frame that is not of the allocator itself."""
    callers = (frame for frame in frames if not is_allocator(frame.symbol))
    return next(callers, None)


def _programs_frame(frames: Sequence[Frame], program: str) -> Frame | None:
    """Where the program itself called what allocated, as its author would look for it."""
    own = (frame for frame in telling(frames) if not is_standard(frame))
    return next((frame for frame in own if _is_own(frame.module, program)), None)


def _describe(leaks: Sequence[StackStats], program: str, exited: bool) -> str:
    largest = leaks[0]
    frame = _programs_frame(largest.frames, program) or _allocating_frame(largest.frames)
    ending = "were never freed" if exited else "are still not freed"
    if largest.blocks == 1:
        ending = ending.replace("were", "was").replace("are", "is")
    others = len(leaks) - 1
    more = f", and {others} more stack{'s' * (others > 1)} leaked" if others else ""
    return f"{_amount(largest)} from {_place(frame)} {ending}{more}"


def _amount(stack: StackStats) -> str:
    noun = "block" if stack.blocks == 1 else "blocks"
    return f"{stack.blocks} {noun} ({format_size(stack.bytes)})"


def _place(frame: Frame | None) -> str:
    if frame is None:
        return "an unknown place"
    module = basename(frame.module)
    if not frame.symbol:
        return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"
    where = f"{basename(frame.file)}:{frame.line}" if frame.file else module
    return f"{frame.symbol} ({where})" if where else frame.symbol
