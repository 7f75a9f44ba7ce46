# SPDX-License-Identifier: Apache-2.0
"""Whose the blocks of a stack are: by the modules and functions that allocated them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from kwatch.model import c_library
from kwatch.model.frame import Frame
from kwatch.model.frame_roles import is_allocator, is_application, is_in_no_file, is_standard
from kwatch.model.snapshot import BlockOwner

_ByRole = Callable[[Frame], bool]


def block_owner(
    frames: Sequence[Frame],
    program: str,
    is_wrapper: _ByRole,
    holders: Collection[str] = (),
) -> tuple[BlockOwner, str] | None:
    """The owner and its module; None without frames.

    `holders`: the modules in whose data a pointer to the blocks was found, if that is known.
    A library's state is what it keeps in its own data, and what it allocates where nothing of the
    program has called it. `program`: the path of the executable.
    """
    callers = [frame for frame in frames if not _is_means(frame, is_wrapper)]
    if not callers:
        return None
    first = callers[0]
    if is_in_no_file(first) or is_application(first, program):
        return BlockOwner.PROGRAM, first.module
    owner = BlockOwner.LIBRARY
    asked = any(is_application(frame, program) or is_in_no_file(frame) for frame in callers)
    if not asked or _is_kept(callers) or (holders and first.module in holders):
        owner = BlockOwner.LIBRARY_STATE
    return owner, first.module


def _is_means(frame: Frame, is_wrapper: _ByRole) -> bool:
    """Whether a frame only serves an allocation: the allocator, a wrapper, a language's library."""
    if c_library.is_c_library(frame):
        return is_allocator(frame.symbol)
    return is_allocator(frame.symbol) or is_standard(frame) or is_wrapper(frame)


def _is_kept(callers: Sequence[Frame]) -> bool:
    """Whether the C library puts what it allocates into its own tables."""
    inner = []
    for frame in callers:
        if not c_library.is_c_library(frame):
            break
        inner.append(frame)
    return c_library.keeps(inner)
