# SPDX-License-Identifier: Apache-2.0
"""Call stacks of single system calls: one line per frame, the innermost first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kwatch.model.frame import Ending, Frame
from kwatch.model.frame_roles import is_outermost
from kwatch.model.traced_call import TracedCall

#: The frames of a call's stack; none for what is not a call.
StackOf = Callable[[TracedCall], Sequence[str]]

#: Endings of stacks that have all of their frames.
_WHOLE = (Ending.COMPLETE, Ending.FINISHED, Ending.FRAME_POINTERS)


def frame_text(frame: Frame) -> str:
    """`read_config+0x1c (app) config.c:12`, as much of it as is known."""
    name = f"{frame.symbol}+{frame.offset:#x}" if frame.symbol else f"{frame.offset:#x}"
    module = f" ({frame.module.rpartition('/')[2]})" if frame.module else ""
    line = f" {frame.file.rpartition('/')[2]}:{frame.line}" if frame.file else ""
    return f"{name}{module}{line}"


def stack_texts(frames: Sequence[str], ending: str) -> list[str]:
    """The frames, and why there are no more if some are missing. `ending`: that of the stack."""
    is_whole = ending in _WHOLE or (frames and is_outermost(frames[-1].partition("+")[0]))
    if is_whole:
        return list(frames)
    return [*frames, f"[{'cut' if frames else 'no stack'}: {ending}]"]
