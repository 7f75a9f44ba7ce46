# SPDX-License-Identifier: Apache-2.0
"""Snapshots as text for a terminal: a few lines and tables for each process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TextIO

from kwatch.model.snapshot import HeapStats, Lost, MemoryStats, Snapshot, Verdict
from kwatch.sinks.table.call_stacks import call_stack_lines
from kwatch.sinks.table.heap import heap_lines
from kwatch.sinks.table.screen import Screen, columns
from kwatch.sinks.table.syscalls import syscall_lines, unfinished_text
from kwatch.units import format_growth, format_seconds, format_size

_GROW_WITH_BUFFER = ("syscall_ring_full", "heap_ring_full")
_MAX_REMEMBERED = 4096  # processes; system-wide most have no last report with which they go
_COLORS = {Verdict.LEAK: 31, Verdict.CLEAN: 32, Verdict.UNSURE: 33}


@dataclass(frozen=True, slots=True)
class _Written:
    """Of a snapshot: all that the next one must have in common with it to be not worth a report.

    Blocks may have grown older than --older meanwhile, and be listed without an event.
    """

    counts: tuple[int, ...]
    rows: tuple[tuple[int, int, int], ...]
    heap: HeapStats | None = field(compare=False)


class Tables:
    """Growth is since the last snapshot of the same process that was written here.

    A process to which nothing has happened since has one line.
    """

    def __init__(
        self, stream: TextIO, width: int = 80, color: bool = False, full_stacks: bool = False
    ) -> None:
        self._stream = stream
        self._full_stacks = full_stacks
        self._screen = Screen(width, stream.encoding)
        self._color = color
        self._written: dict[tuple[int, float], _Written] = {}

    def write(self, snapshot: Snapshot) -> None:
        now = _written(snapshot)
        before = self._remember(snapshot, now)
        if not any(now.counts):
            lines = self._idle(snapshot, "no events")
        elif snapshot.kind == "snapshot" and now == before:
            lines = self._idle(snapshot, "no new events")
        else:
            lines = self._report(snapshot, before.heap if before else None)
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()

    def _remember(self, snapshot: Snapshot, now: _Written) -> _Written | None:
        """Of the process's last snapshot, in exchange for the one of now."""
        key = (snapshot.process.pid, snapshot.process.start_time)
        before = self._written.pop(key, None)
        if snapshot.kind == "snapshot":
            self._written[key] = now
            if len(self._written) > _MAX_REMEMBERED:
                del self._written[next(iter(self._written))]
        return before

    def _idle(self, snapshot: Snapshot, what: str) -> list[str]:
        pending = unfinished_text(snapshot.syscalls) if snapshot.syscalls is not None else ""
        notes = f"  {what}{f' ({pending})' if pending else ''}"
        notes = self._screen.clip(notes, self._screen.width // 2)
        verdict = _verdict(snapshot)
        end = f"  {verdict.upper()}" if verdict is Verdict.CLEAN else ""
        header = _header(snapshot, self._screen, self._screen.width - columns(notes + end))
        line = header + notes + self._painted(end, verdict)
        return [line] if end or verdict is None else [line, *self._verdict_lines(snapshot)]

    def _report(self, snapshot: Snapshot, before: HeapStats | None) -> list[str]:
        screen = self._screen
        lines = [_header(snapshot, screen, screen.width)]
        if snapshot.heap is not None:
            lines += heap_lines(snapshot.heap, before, screen, self._full_stacks)
        lines += screen.paragraph(_memory(snapshot.memory))
        if snapshot.syscalls is not None:
            lines += syscall_lines(snapshot.syscalls, screen)
            lines += call_stack_lines(snapshot.syscalls, screen, self._full_stacks)
        lines += screen.paragraph(_lost(snapshot.lost))
        return [*lines, *self._verdict_lines(snapshot), ""]

    def _verdict_lines(self, snapshot: Snapshot) -> list[str]:
        verdict = _verdict(snapshot)
        if verdict is None:
            return []
        reason = f": {snapshot.reason}" if snapshot.reason else ""
        first, *more = self._screen.paragraph(f"{verdict.upper()}{reason}")
        return [self._painted(first, verdict), *more]

    def _painted(self, line: str, verdict: Verdict | None) -> str:
        if verdict is None or not self._color:
            return line
        word = verdict.upper()
        return line.replace(word, f"\033[1;{_COLORS[verdict]}m{word}\033[0m", 1)


def _counts(snapshot: Snapshot) -> tuple[int, ...]:
    """What every event that a report shows adds to."""
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


def _verdict(snapshot: Snapshot) -> Verdict | None:
    return snapshot.verdict if snapshot.kind == "final" else None


def _header(snapshot: Snapshot, screen: Screen, room: int) -> str:
    """The time is local, as in the target's own logs; a long path loses its middle."""
    process = snapshot.process
    clock = datetime.fromisoformat(snapshot.time).astimezone()
    who = f"[{clock:%H:%M:%S}] {process.comm}[{process.pid}]"
    ending = f"  killed by {process.killed_by}" if process.killed_by else "  exited"
    since = format_seconds(snapshot.elapsed_s) + (ending if process.exited else "")
    start = screen.clip(f"{who}  {since}  ", room)
    return (start + screen.clip(process.exe, room - columns(start))).rstrip()


def _memory(memory: MemoryStats | None) -> str:
    if memory is None or memory == MemoryStats():
        return ""
    mapped = f"{format_size(memory.mapped_bytes)} in {memory.mappings:,} mappings"
    brk = format_growth(memory.brk_bytes)
    return f"memory: {mapped}, brk {brk} (how the heap grows; not a leak)"


def _lost(lost: Lost) -> str:
    if not lost.events:
        return ""
    by_count = sorted(lost.by_cause.items(), key=lambda item: -item[1])
    causes = ", ".join(f"{cause.replace('_', ' ')} {count:,}" for cause, count in by_count if count)
    text = f"lost: {lost.events:,} events ({causes}): totals are lower bounds"
    ring = any(count and cause in _GROW_WITH_BUFFER for cause, count in by_count)
    return f"{text}; a larger --buffer may help" if ring else text
