# SPDX-License-Identifier: Apache-2.0
"""Call stacks of single system calls: one line per frame, the innermost first."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.frame import Ending, Frame

#: Endings of stacks that have all of their frames.
_WHOLE = (Ending.COMPLETE, Ending.FINISHED, Ending.FRAME_POINTERS)


def frame_text(frame: Frame) -> str:
    """`read_config+0x1c (app) config.c:12`, as much of it as is known."""
    name = f"{frame.symbol}+{frame.offset:#x}" if frame.symbol else f"{frame.offset:#x}"
    module = f" ({frame.module.rpartition('/')[2]})" if frame.module else ""
    line = f" {frame.file.rpartition('/')[2]}:{frame.line}" if frame.file else ""
    return f"{name}{module}{line}"


def stack_text(frames: Sequence[str], ending: str) -> str:
    """Lines below that of a call. `ending`: the value of an Ending."""
    lines = [f" > {frame}\n" for frame in frames]
    if ending not in _WHOLE:
        lines.append(f" > [{'cut' if frames else 'no stack'}: {ending}]\n")
    return "".join(lines)
