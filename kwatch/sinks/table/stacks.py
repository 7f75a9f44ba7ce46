# SPDX-License-Identifier: Apache-2.0
"""Call stacks for people: one line per frame, the innermost first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import PurePath

from kwatch.model.frame import Ending, Frame
from kwatch.model.frame_roles import is_application, is_outermost, relevant_frames
from kwatch.sinks.table.names import shortened
from kwatch.sinks.table.screen import Screen, columns

_LINES = 8
_INDENT = "  "

_Run = tuple[Frame, int]


#: What a table says of a stack whose outermost frames are missing.
_REASONS = {
    Ending.NO_MAPPING: "code of no known file",
    Ending.NO_ROW: "code without unwind information",
    Ending.UNSUPPORTED: "unwind information of a rare kind",
    Ending.UNREADABLE: "the stack could not be read",
    Ending.CORRUPT: "the frames are damaged",
    Ending.TOO_DEEP: "too deep",
}

_WITHOUT_FRAMES = {
    Ending.OFF: "[by kwatch, to launch the command]",
    Ending.UNSUPPORTED: "[no stacks of 32-bit programs]",
}


def where(
    frames: Sequence[Frame], ending: Ending, screen: Screen, room: int, full: bool = False
) -> list[str]:
    """`function file.c:12` and its callers: the first few, without what is not the program's.

    `full`: all of them. Calls of a function by itself, in one place, take one line. The last line
    of a stack that is not complete says so.
    """
    if not frames:
        return [_WITHOUT_FRAMES.get(ending, "[stack lost]")]
    lines = _lines(frames, screen, room, full)
    if ending in _REASONS and not is_outermost(frames[-1].symbol):
        lines.append(_INDENT + screen.clip(f"[cut: {_REASONS[ending]}]", room - len(_INDENT)))
    elif ending is Ending.FRAME_POINTERS:
        lines.append(_INDENT + screen.clip("[in part by frame pointers]", room - len(_INDENT)))
    return lines


def _lines(frames: Sequence[Frame], screen: Screen, room: int, full: bool) -> list[str]:
    runs = _runs(frames if full else relevant_frames(frames))
    parts = [runs] if full or len(runs) <= _LINES else _shown(runs)
    first, *callers = (line for part in parts for line in _part(part, screen, room - len(_INDENT)))
    return [first, *(_INDENT + caller for caller in callers)]


def _shown(runs: list[_Run]) -> list[list[_Run] | int]:
    """The innermost ones, and the first of the program's own; a number of those between."""
    own = next((i for i, (frame, _) in enumerate(runs) if is_application(frame)), 0)
    if own < _LINES - 1:
        return [runs[: _LINES - 1], _count(runs[_LINES - 1 :])]
    shown: list[list[_Run] | int] = [runs[: _LINES - 3]]
    shown += [_count(runs[_LINES - 3 : own]), [runs[own]]]
    if own + 1 < len(runs):
        shown.append(_count(runs[own + 1 :]))
    return shown


def _count(runs: list[_Run]) -> int:
    return sum(times for _, times in runs)


def _part(part: list[_Run] | int, screen: Screen, room: int) -> list[str]:
    if isinstance(part, int):
        return [f"... {part} more"]
    return [_line(frame, times, screen, room) for frame, times in part]


def _runs(frames: Sequence[Frame]) -> list[_Run]:
    """Frames that look alike and follow one another are one, with their number."""
    alike = itertools.groupby(frames, key=lambda frame: (_name(frame), _place(frame)))
    runs = [list(run) for _, run in alike]
    return [(run[0], len(run)) for run in runs]


def _line(frame: Frame, times: int, screen: Screen, room: int) -> str:
    marks = f" x{times}" if times > 1 else ""
    if not frame.symbol:
        return screen.clip(_name(frame), room - len(marks)) + marks
    place = screen.clip(_place(frame), room // 2) + marks
    symbol = shortened(frame.symbol, screen, room - columns(place) - 1)
    return f"{symbol} {place}".rstrip()


def _name(frame: Frame) -> str:
    if frame.symbol:
        return frame.symbol
    module = PurePath(frame.module).name
    return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"


def _place(frame: Frame) -> str:
    """The source line, or else the module; behind a mark if the function is inlined."""
    name = PurePath(frame.file or frame.module).name
    place = f"{name}:{frame.line}" if frame.file and frame.line else name
    return f"(inlined) {place}".rstrip() if frame.inlined else place
