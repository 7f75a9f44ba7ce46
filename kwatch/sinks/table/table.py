# SPDX-License-Identifier: Apache-2.0
"""Snapshots as text for a terminal: a few lines and tables for each process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TextIO

from kwatch.model.losses import buffer_helps
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import (
    EndedSummary,
    HeapStats,
    Lost,
    MemoryStats,
    Snapshot,
    Verdict,
)
from kwatch.sinks.table.call_stacks import call_stack_lines
from kwatch.sinks.table.ended import ended_lines
from kwatch.sinks.table.generated_code import generated_code_hint
from kwatch.sinks.table.heap import heap_lines
from kwatch.sinks.table.mark import mark_lines
from kwatch.sinks.table.memory import memory_lines
from kwatch.sinks.table.screen import Screen, columns, terminal_width
from kwatch.sinks.table.syscalls import syscall_lines, unfinished_text
from kwatch.sinks.table.wrappers import wrapper_lines
from kwatch.units import counted, format_seconds

_MAX_REMEMBERED = 4096  # processes; system-wide, most never get the final report that ends it
_MAX_IDLE = 10  # lines after which the last tables are too far up to be read
_NO_EVENTS = "no events"
_NO_VERDICT = "NO VERDICT"
_COLORS = {Verdict.LEAK: 31, Verdict.GROWING: 31, Verdict.CLEAN: 32, Verdict.UNSURE: 33}


@dataclass(frozen=True, slots=True)
class _Written:
    """What was written of a process. A snapshot that equals it has nothing new.

    `rows` may change without an event: blocks become older than --older.
    """

    counts: tuple[int, ...]
    rows: tuple[tuple[int, int, int], ...]
    heap: HeapStats | None = field(compare=False)
    idle: int = field(default=0, compare=False)  # lines without tables since


class Tables:
    """Writes a report of each snapshot; one line if nothing has happened.

    Growth is since the last snapshot of the same process. `width` gives the columns of the
    terminal, or None for lines of any length; each report asks anew.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool = False,
        full_stacks: bool = False,
        width: Callable[[TextIO], int | None] = terminal_width,
    ) -> None:
        self._stream = stream
        self._full_stacks = full_stacks
        self._width = width
        self._color = color
        self._written: dict[tuple[int, float], _Written] = {}

    def write(self, snapshot: Snapshot) -> None:
        screen = Screen(self._width(self._stream), self._stream.encoding)
        if snapshot.kind == "mark":
            self._write_lines(self._mark(snapshot, screen))
            return
        now = _written(snapshot)
        before = self._written.pop(_key(snapshot), None)
        nothing = _nothing(snapshot, now, before)
        idle = before.idle + 1 if nothing and before else 0
        self._remember(snapshot, replace(now, idle=idle))
        if nothing:
            lines = self._idle(snapshot, nothing, screen)
        else:
            lines = self._report(snapshot, before.heap if before else None, screen)
        self._write_lines(lines)

    def _write_lines(self, lines: list[str]) -> None:
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()

    def _mark(self, snapshot: Snapshot, screen: Screen) -> list[str]:
        return [
            _with_path(_header(snapshot), snapshot, screen),
            *mark_lines(snapshot, screen, self._full_stacks),
            *screen.paragraph(_lost(snapshot.lost)),
            "",
        ]

    def write_ended(self, summary: EndedSummary) -> None:
        screen = Screen(self._width(self._stream), self._stream.encoding)
        self._stream.write("\n".join([*ended_lines(summary, screen), "", ""]))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()

    def _remember(self, snapshot: Snapshot, now: _Written) -> None:
        if snapshot.kind == "final":
            return
        self._written[_key(snapshot)] = now
        if len(self._written) > _MAX_REMEMBERED:
            del self._written[next(iter(self._written))]

    def _idle(self, snapshot: Snapshot, nothing: str, screen: Screen) -> list[str]:
        pending = unfinished_text(snapshot.syscalls) if snapshot.syscalls is not None else ""
        notes = f"{nothing} ({pending})" if pending else nothing
        if _word(snapshot) == _NO_VERDICT and nothing == _NO_EVENTS:
            start = f"{_NO_VERDICT}: {_name(snapshot.process)}: {notes}  {_clock(snapshot)}"
            return [_with_path(f"{start} {_since(snapshot)}", snapshot, screen)]
        return [
            _with_path(_header(snapshot), snapshot, screen, notes),
            *self._verdict_lines(snapshot, screen),
        ]

    def _report(self, snapshot: Snapshot, before: HeapStats | None, screen: Screen) -> list[str]:
        lines = [_with_path(_header(snapshot), snapshot, screen)]
        if snapshot.heap is not None:
            lines += heap_lines(snapshot.heap, before, screen, self._full_stacks)
        lines += wrapper_lines(snapshot.wrappers, screen)
        lines += memory_lines(snapshot.memory, snapshot.descriptors, screen, self._full_stacks)
        if snapshot.syscalls is not None:
            lines += syscall_lines(snapshot.syscalls, snapshot.elapsed_s, screen)
            lines += call_stack_lines(snapshot.syscalls, screen, self._full_stacks)
        lines += screen.paragraph(generated_code_hint(snapshot))
        lines += screen.paragraph(_lost(snapshot.lost))
        return [*lines, *self._verdict_lines(snapshot, screen), ""]

    def _verdict_lines(self, snapshot: Snapshot, screen: Screen) -> list[str]:
        """`LEAK: comm[pid]: reason`, one line unless the terminal is narrower."""
        word = _word(snapshot)
        if not word:
            return []
        reason = f": {snapshot.reason}" if snapshot.reason else ""
        text = f"{word}: {_name(snapshot.process)}{reason}"
        first, *more = screen.paragraph(text)
        return [self._painted(first, _verdict(snapshot)), *more]

    def _painted(self, line: str, verdict: Verdict | None) -> str:
        if verdict is None or not self._color:
            return line
        word = verdict.upper()
        return line.replace(word, f"\033[1;{_COLORS[verdict]}m{word}\033[0m", 1)


def _key(snapshot: Snapshot) -> tuple[int, float]:
    return snapshot.process.pid, snapshot.process.start_time


def _counts(snapshot: Snapshot) -> tuple[int, ...]:
    """Numbers that change with every event that a report shows."""
    heap, memory = snapshot.heap or HeapStats(), snapshot.memory or MemoryStats()
    calls = snapshot.syscalls.calls if snapshot.syscalls is not None else 0
    return (
        *(heap.allocs, heap.frees, heap.failed_allocs, heap.unknown_frees, heap.live_blocks),
        *(memory.mmap_calls, memory.munmap_calls, memory.mapped_bytes, memory.brk_bytes),
        *(calls, snapshot.lost.events),
    )


def _written(snapshot: Snapshot) -> _Written:
    heap = snapshot.heap
    rows = tuple((s.stack, s.blocks, s.bytes) for s in heap.stacks) if heap is not None else ()
    return _Written(_counts(snapshot), rows, heap)


def _nothing(snapshot: Snapshot, now: _Written, before: _Written | None) -> str:
    """`no events` or `no new events`; empty if something has happened.

    A final report has its tables all the same if the last ones are far up.
    """
    if not any(now.counts):
        return _NO_EVENTS
    if before != now or before is None or snapshot.wrappers is not None:
        return ""
    return "no new events" if snapshot.kind == "snapshot" or before.idle <= _MAX_IDLE else ""


def _verdict(snapshot: Snapshot) -> Verdict | None:
    return snapshot.verdict if snapshot.kind == "final" else None


def _word(snapshot: Snapshot) -> str:
    """The verdict, or that there is none; empty if none is wanted."""
    verdict = _verdict(snapshot)
    if verdict is not None:
        return verdict.upper()
    return _NO_VERDICT if snapshot.kind == "final" and snapshot.heap is not None else ""


def _name(process: ProcessFacts) -> str:
    return f"{process.comm}[{process.pid}]"


def _header(snapshot: Snapshot) -> str:
    return f"{_clock(snapshot)} {_name(snapshot.process)}  {_since(snapshot)}"


def _clock(snapshot: Snapshot) -> str:
    """Local time, as in the logs of the target."""
    return f"[{datetime.fromisoformat(snapshot.time).astimezone():%H:%M:%S}]"


def _since(snapshot: Snapshot) -> str:
    process = snapshot.process
    ending = f"  killed by {process.killed_by}" if process.killed_by else "  exited"
    return format_seconds(snapshot.elapsed_s) + (ending if process.exited else "")


def _with_path(start: str, snapshot: Snapshot, screen: Screen, notes: str = "") -> str:
    """One line of `start`, the executable's path and `notes`. A long path loses its middle."""
    start = screen.clip(start, screen.width)
    room = screen.width - columns(start)
    notes = screen.clip(f"  {notes}", room) if notes else ""
    return start + screen.clip(f"  {snapshot.process.exe}", room - columns(notes)).rstrip() + notes


def _lost(lost: Lost) -> str:
    if not lost.events:
        return ""
    by_count = sorted(lost.by_cause.items(), key=lambda item: -item[1])
    causes = ", ".join(f"{cause.replace('_', ' ')} {count:,}" for cause, count in by_count if count)
    text = f"lost: {counted(lost.events, 'event')} ({causes}): totals are lower bounds"
    return f"{text}; a larger --buffer may help" if buffer_helps(lost) else text
