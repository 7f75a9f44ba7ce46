# SPDX-License-Identifier: Apache-2.0
"""Call stacks for people: one line per frame, the innermost first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from kwatch.sinks.names import shortened
from kwatch.sinks.screen import Screen, columns
from kwatch.snapshot import Ending, Frame

_LINES = 8
_INDENT = "  "

#: What glibc and musl run before main() and before a thread's function.
_START_UP = frozenset(
    (
        "_start",
        "_start_c",
        "__libc_start_main",
        "__libc_start_main_impl",
        "__libc_start_call_main",
        "libc_start_main_stage2",
        "start_thread",
        "clone",
        "clone3",
        "__clone",
        "__clone3",
    )
)


#: What a table says of a stack whose outermost frames are missing.
_REASONS = {
    Ending.NO_MAPPING: "code of no known file",
    Ending.NO_ROW: "code without unwind information",
    Ending.UNSUPPORTED: "unwind information of a rare kind",
    Ending.UNREADABLE: "the stack could not be read",
    Ending.CORRUPT: "the frames are damaged",
    Ending.TOO_DEEP: "too deep",
}


def where(frames: Sequence[Frame], ending: Ending, screen: Screen, room: int) -> list[str]:
    """`function file.c:12` and its callers, without the runtime's start-up code.

    The last line of a stack that is not complete says so.
    """
    if not frames:
        return ["[stack lost]"]
    lines = _lines(frames, screen, room)
    if ending in _REASONS:
        lines.append(_INDENT + screen.clip(f"[cut: {_REASONS[ending]}]", room - len(_INDENT)))
    elif ending is Ending.FRAME_POINTERS:
        lines.append(_INDENT + screen.clip("[in part by frame pointers]", room - len(_INDENT)))
    return lines


def _lines(frames: Sequence[Frame], screen: Screen, room: int) -> list[str]:
    own = _without_start_up(frames)
    shown = own if len(own) <= _LINES else own[: _LINES - 1]
    first, *callers = (_line(frame, screen, room - len(_INDENT)) for frame in shown)
    if len(shown) < len(own):
        callers.append(f"... {len(own) - len(shown)} more")
    return [first, *(_INDENT + caller for caller in callers)]


def _without_start_up(frames: Sequence[Frame]) -> Sequence[Frame]:
    end = len(frames)
    while end > 1 and frames[end - 1].symbol.partition("@")[0] in _START_UP:
        end -= 1
    return frames[:end]


def _line(frame: Frame, screen: Screen, room: int) -> str:
    if not frame.symbol:
        return screen.clip(_unnamed(frame), room)
    place = screen.clip(_place(frame), room // 2)
    symbol = shortened(frame.symbol, screen, room - columns(place) - 1)
    return f"{symbol} {place}".rstrip()


def _unnamed(frame: Frame) -> str:
    module = PurePath(frame.module).name
    return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"


def _place(frame: Frame) -> str:
    if not frame.file:
        return PurePath(frame.module).name
    name = PurePath(frame.file).name
    return f"{name}:{frame.line}" if frame.line else name
