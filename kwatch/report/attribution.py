# SPDX-License-Identifier: Apache-2.0
"""Which function a block belongs to: the allocator, wrappers and the C library are seen through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from os.path import basename
from typing import Protocol

from kwatch.model.c_library import MAX_KEPT_BYTES, Owner, has_c_name, is_c_library, owner
from kwatch.model.frame import Ending, Frame
from kwatch.model.frame_roles import (
    is_allocator,
    is_application,
    is_in_no_file,
    is_outermost,
    is_standard,
    is_start_up,
    is_wrapper,
    relevant_frames,
)
from kwatch.model.snapshot import StackStats
from kwatch.symbols.stack import Stack

_MAX_STACKS = 16  # that are named to find out whether a program is static

#: Whether a frame belongs to the C library.
_IsLibrary = Callable[[Frame], bool]


class StackSymbolizer(Protocol):
    """Symbolizes stacks: see `kwatch.symbols.symbolizer.Symbolizer`."""

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        """All frames of each stack."""

    def leading(
        self, stacks: Sequence[Stack], is_last: Callable[[Frame], bool]
    ) -> list[tuple[Frame, ...]]:
        """The innermost frames of each stack, up to the first for which `is_last` is true."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Outstanding blocks of one stack, and who allocated them.

    `library`: the frames of the C library that called the allocator, innermost first. `owner`: who
    has to free what they allocated. `caller`: the first frame outside it, and outside the wrappers
    of system libraries; None if it is unknown.
    """

    row: StackStats
    stack: Stack
    library: tuple[Frame, ...]
    owner: Owner
    caller: Frame | None

    @property
    def is_known(self) -> bool:
        """Whether a frame in a known file allocated the blocks."""
        if self.caller is not None and not is_in_no_file(self.caller):
            return True
        if not self.library or self.owner is Owner.CALLER:
            return False
        return self.owner is Owner.LIBRARY or not self._is_cut

    def is_leak(self, program: str) -> bool:
        """Whether the program itself allocated, or a library function with more than one block.

        What the C library hands out belongs to the function that called it. If that is unknown, the
        blocks may be a table.
        """
        if self.library and (self._is_cut or self.owner is Owner.LIBRARY):
            return self.row.bytes > MAX_KEPT_BYTES
        if self.row.blocks >= 2:
            return bool(self.library) or self.caller is not None
        if self.library and self.owner is Owner.UNKNOWN:
            return False
        return self.caller is not None and is_application(self.caller, program)

    @property
    def _is_cut(self) -> bool:
        """Whether the stack ends in the C library, before the function that called it."""
        if self.caller is not None or self.row.ending in (Ending.COMPLETE, Ending.FINISHED):
            return False
        return not is_outermost(self.library[-1].symbol)


def origins(
    stacks: Sequence[tuple[StackStats, Stack]], symbolizer: StackSymbolizer, program: str
) -> list[Origin]:
    """The origin of each stack's blocks.

    A program may have very many stacks, so no more frames are named than that takes.
    """
    found = _origins(stacks, symbolizer, program, is_c_library)
    doubtful = [
        index
        for index, each in enumerate(found)
        if each.caller and _is_c_named(each.caller, program)
    ]
    some = [stacks[index][1] for index in doubtful[:_MAX_STACKS]]
    if any(_has_c_start(frames, program) for frames in symbolizer.frames(some)):
        again = [stacks[index] for index in doubtful]
        library = _library_in(program)
        for index, origin in zip(
            doubtful, _origins(again, symbolizer, program, library), strict=True
        ):
            found[index] = origin
    return found


def leaking_place(origin: Origin, symbolizer: StackSymbolizer, program: str) -> str:
    """The place in the program that led to the allocation, as its author would look for it.

    In a program that wraps the allocator, every stack begins with the wrapper: its caller says
    more. The library function that the program called is named as well.
    """
    (frames,) = symbolizer.frames([origin.stack])
    is_library = _library_in(program) if _has_c_start(frames, program) else is_c_library
    callers = [frame for frame in frames if not is_allocator(frame.symbol)]
    outside = [
        frame for frame in callers if not is_library(frame) and not is_start_up(frame.symbol)
    ]
    relevant = set(relevant_frames(frames))
    own = (
        [f for f in outside if f in relevant and not is_standard(f) and is_application(f, program)]
        or [f for f in outside if not is_standard(f) and not is_in_no_file(f)]
        or outside
        or callers
    )
    if not own:
        return place(None)
    caller = next(dropwhile(is_wrapper, own), own[0])
    means = own[0] if caller is not own[0] else _called(caller, frames)
    return f"{place(caller)} through {place(means)}" if means else place(caller)


def _origins(
    stacks: Sequence[tuple[StackStats, Stack]],
    symbolizer: StackSymbolizer,
    program: str,
    is_library: _IsLibrary,
) -> list[Origin]:
    def is_caller(frame: Frame) -> bool:
        if is_allocator(frame.symbol) or is_library(frame):
            return False
        return is_application(frame, program) or not is_wrapper(frame)

    found = []
    leading = symbolizer.leading([stack for _, stack in stacks], is_caller)
    for (row, stack), frames in zip(stacks, leading, strict=True):
        beyond = list(dropwhile(lambda frame: is_allocator(frame.symbol), frames))
        library = tuple(takewhile(is_library, beyond))
        caller = frames[-1] if frames and is_caller(frames[-1]) else None
        found.append(Origin(row, stack, library, owner(library), caller))
    return found


def _is_c_named(frame: Frame, program: str) -> bool:
    return frame.module == program and has_c_name(frame)


def _library_in(program: str) -> _IsLibrary:
    """For a static program, which contains the C library."""
    return lambda frame: is_c_library(frame) or _is_c_named(frame, program)


def _has_c_start(frames: Sequence[Frame], program: str) -> bool:
    """Whether the program contains the functions that call main(), or those of a thread.

    `_start` is in every program.
    """
    return any(
        frame.module == program
        and is_start_up(frame.symbol)
        and not frame.symbol.startswith(("_start", "_dl"))
        for frame in frames
    )


def _called(caller: Frame, frames: Sequence[Frame]) -> Frame | None:
    """The library function that the caller called, if it did not call the allocator directly."""
    at = frames.index(caller)
    called = frames[at - 1] if at else None
    if called is None or is_allocator(called.symbol) or is_standard(called):
        return None
    return called if called.symbol or is_in_no_file(called) else None


def place(frame: Frame | None) -> str:
    """A function with its source line or module, as a reason names it."""
    if frame is None:
        return "an unknown place"
    module = basename(frame.module)
    if not frame.symbol:
        if is_in_no_file(frame):
            return f"code in no known file ({frame.address:#x})"
        return f"{module}+{frame.offset:#x}"
    where = f"{basename(frame.file)}:{frame.line}" if frame.file else module
    return f"{frame.symbol} ({where})" if where else frame.symbol
