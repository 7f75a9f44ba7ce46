# SPDX-License-Identifier: Apache-2.0
"""Which function a block belongs to: the allocator, wrappers and the C library are seen through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import dropwhile
from os.path import basename
from typing import Protocol

from kwatch.model.c_library import has_c_name, is_c_library
from kwatch.model.frame import Frame
from kwatch.model.frame_roles import (
    is_allocator,
    is_application,
    is_in_no_file,
    is_standard,
    is_start_up,
    relevant_frames,
)
from kwatch.ownership.code import Code
from kwatch.ownership.wrappers import Wrappers
from kwatch.procfs.address_space import ReturnAddress
from kwatch.symbols.stack import Stack

_NAMES_ONLY = Wrappers()

#: Whether a frame belongs to the C library.
_IsLibrary = Callable[[Frame], bool]


class StackSymbolizer(Protocol):
    """Symbolizes stacks: see `kwatch.symbols.symbolizer.Symbolizer`."""

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        """All frames of each stack."""

    def code(self, stack: Stack, address: ReturnAddress, offset: int) -> Code | None:
        """The code of the function that the address returns to; None if it is unknown."""


def leaking_place(
    stack: Stack,
    symbolizer: StackSymbolizer,
    program: str,
    wrappers: Wrappers = _NAMES_ONLY,
) -> str:
    """The place in the program that led to the allocation, as its author would look for it.

    In a program that wraps the allocator, every stack begins with the wrapper: its caller says
    more. The library function that the program called is named as well.
    """
    (frames,) = symbolizer.frames([stack])
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
    caller = next(dropwhile(wrappers.__contains__, own), own[0])
    means = own[0] if caller is not own[0] else _called(caller, frames)
    return f"{place(caller)} through {place(means)}" if means else place(caller)


def _library_in(program: str) -> _IsLibrary:
    """For a static program, which contains the C library."""
    return lambda frame: is_c_library(frame) or (frame.module == program and has_c_name(frame))


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
