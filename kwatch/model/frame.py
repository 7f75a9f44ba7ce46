# SPDX-License-Identifier: Apache-2.0
"""Frames of a call stack, and how a stack ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stack. `symbol` is empty where the code has no name.

    `inlined`: a function that the compiler put into the next frame's, with the same address.
    """

    address: int
    symbol: str = ""
    offset: int = 0
    module: str = ""
    file: str = ""
    line: int = 0
    inlined: bool = False


class Ending(enum.StrEnum):
    """How a stack ends. Of all but the first two, the outermost frames are missing."""

    COMPLETE = "complete"
    FINISHED = "finished"  # complete, from a copy of its memory
    FRAME_POINTERS = "frame_pointers"  # complete, if code without a table keeps frame pointers
    NO_MAPPING = "no_mapping"
    NO_ROW = "no_row"
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"
    CORRUPT = "corrupt"
    TOO_DEEP = "too_deep"
    LOST = "lost"  # the frames did not arrive
    OFF = "off"  # not looked for: of an allocation, only the function is known
