# SPDX-License-Identifier: Apache-2.0
"""Frames of a call stack, and how a stack ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stack. `symbol` is empty if the code has no name.

    `inlined`: the function was inlined into that of the next frame, which has the same address.
    """

    address: int
    symbol: str = ""
    offset: int = 0
    module: str = ""
    file: str = ""
    line: int = 0
    inlined: bool = False


class Ending(enum.StrEnum):
    """How a stack ends. After any ending but the first two, outermost frames may be missing."""

    COMPLETE = "complete"
    FINISHED = "finished"  # complete, from a copy of its memory
    FRAME_POINTERS = "frame_pointers"  # complete, if code without a table keeps frame pointers
    NO_MAPPING = "no_mapping"
    NO_ROW = "no_row"
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"
    CORRUPT = "corrupt"
    TOO_DEEP = "too_deep"
    LOST = "lost"  # the frames were lost
    OFF = "off"  # stacks are off: only the allocator function is known
