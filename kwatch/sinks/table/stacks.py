# SPDX-License-Identifier: Apache-2.0
"""Call stacks for people: one line per frame, the innermost first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from kwatch.model.frame import Ending, Frame
from kwatch.model.frame_roles import is_application, is_outermost, relevant_frames
from kwatch.sinks.table.names import shortened
from kwatch.sinks.table.screen import Screen, columns

MAX_LINES = 8
INDENT = "  "

#: Addresses of frames whose offset in the function is shown.
Marks = frozenset[int]
NO_MARKS: Marks = frozenset()

#: A frame, and how often it follows itself.
_Run = tuple[Frame, int]

#: Why the outermost frames of a stack are missing.
_REASONS = {
    Ending.NO_MAPPING: "code of no known file",
    Ending.NO_ROW: "code without unwind information",
    Ending.UNSUPPORTED: "unsupported unwind information",
    Ending.UNREADABLE: "the stack could not be read",
    Ending.CORRUPT: "the frames are damaged",
    Ending.TOO_DEEP: "too deep",
}

_WITHOUT_FRAMES = {
    Ending.OFF: "[made by kwatch to launch the command]",
    Ending.UNSUPPORTED: "[no stacks of 32-bit programs]",
}


@dataclass(frozen=True, slots=True)
class StackText:
    """Writes call stacks in `room` columns: the first few relevant frames; with `full`, all."""

    screen: Screen
    room: int
    full: bool = False

    def lines(self, frames: Sequence[Frame], ending: Ending, marks: Marks = NO_MARKS) -> list[str]:
        """`function file.c:12` and its callers, then a note if the stack is incomplete.

        Marked frames are shown as `function+0x1c`, also where they would be left out.
        """
        if not frames:
            return [_WITHOUT_FRAMES.get(ending, "[stack lost]")]
        kept = frames if self.full else _kept(frames, marks)
        first, *callers = self._frame_lines(_runs(kept, marks), marks)
        lines = [first, *(INDENT + caller for caller in callers)]
        if note := _note(frames, ending):
            lines.append(INDENT + self.screen.clip(f"[{note}]", self.room - len(INDENT)))
        return lines

    def _frame_lines(self, runs: Sequence[_Run], marks: Marks) -> Iterator[str]:
        shown = range(len(runs)) if self.full else _shown(runs, marks)
        next_run = 0
        for index in [*sorted(shown), len(runs)]:
            if left_out := sum(times for _, times in runs[next_run:index]):
                yield f"... {left_out:,} more"
            if index < len(runs):
                yield self._line(*runs[index], marks)
            next_run = index + 1

    def _line(self, frame: Frame, times: int, marks: Marks) -> str:
        room = self.room - len(INDENT)
        repeated = f" x{times:,}" if times > 1 else ""
        if not frame.symbol:
            return self.screen.clip(_name(frame), room - len(repeated)) + repeated
        place = _place(frame)
        if columns(place) > room // 2:
            place = self.screen.clip(_source(frame), room // 2)
        place += repeated
        offset = _offset(frame, marks)
        room -= columns(place) + 1 + len(offset)
        return f"{shortened(frame.symbol, self.screen, room)}{offset} {place}".rstrip()


def _note(frames: Sequence[Frame], ending: Ending) -> str:
    if ending in _REASONS and not is_outermost(frames[-1].symbol):
        return f"cut: {_REASONS[ending]}"
    return "partly by frame pointers" if ending is Ending.FRAME_POINTERS else ""


def _kept(frames: Sequence[Frame], marks: Marks) -> list[Frame]:
    """The relevant frames, and marked ones that are not among them."""
    relevant = relevant_frames(frames)
    missing = marks - {frame.address for frame in relevant if not frame.inlined}
    if not missing:
        return relevant
    wanted = {*relevant, *(f for f in frames if f.address in missing and not f.inlined)}
    return [frame for frame in frames if frame in wanted]


def _runs(frames: Sequence[Frame], marks: Marks) -> list[_Run]:
    """Frames that look alike and follow one another are one, with their number."""

    def look(frame: Frame) -> tuple[str, str]:
        return _name(frame) + _offset(frame, marks), _place(frame)

    runs = [list(run) for _, run in itertools.groupby(frames, key=look)]
    return [(run[0], len(run)) for run in runs]


def _shown(runs: Sequence[_Run], marks: Marks) -> set[int]:
    """The innermost runs, the program's own first one, and marked ones."""
    if len(runs) <= MAX_LINES:
        return set(range(len(runs)))
    own = next((i for i, (frame, _) in enumerate(runs) if is_application(frame)), 0)
    innermost = MAX_LINES - 1 if own < MAX_LINES - 1 else MAX_LINES - 3
    shown = {*range(innermost), own, *_first_marked(runs, marks)}
    # A line that says `1 more` would take the place of the frame that it leaves out.
    between = {i for i in range(len(runs)) if {i - 1, i + 1} <= {*shown, len(runs)}}
    return shown | between


def _first_marked(runs: Sequence[_Run], marks: Marks) -> set[int]:
    """For each mark the innermost run: recursion may repeat it without end."""
    offsets = [_offset(frame, marks) and frame.address for frame, _ in runs]
    return {offsets.index(mark) for mark in marks if mark in offsets}


def _offset(frame: Frame, marks: Marks) -> str:
    """`+0x1c`; empty for what is inlined: its address lies in the next frame's function."""
    marked = frame.address in marks and frame.symbol and not frame.inlined
    return f"+{frame.offset:#x}" if marked else ""


def _name(frame: Frame) -> str:
    if frame.symbol:
        return frame.symbol
    module = PurePath(frame.module).name
    return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"


def _place(frame: Frame) -> str:
    """Where a frame is, preceded by a mark if the function is inlined."""
    return f"(inlined) {_source(frame)}".rstrip() if frame.inlined else _source(frame)


def _source(frame: Frame) -> str:
    """The source line, or else the module."""
    name = PurePath(frame.file or frame.module).name
    return f"{name}:{frame.line}" if frame.file and frame.line else name
