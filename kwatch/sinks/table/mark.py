# SPDX-License-Identifier: Apache-2.0
"""What one process has allocated between two marks, for people."""

from __future__ import annotations

from dataclasses import replace

from kwatch.model.mark import SinceMark
from kwatch.model.reach import BlockCounts
from kwatch.model.snapshot import HeapStats, Snapshot
from kwatch.sinks.table.heap import stack_lines
from kwatch.sinks.table.screen import Screen
from kwatch.units import counted, format_seconds, format_size


def mark_lines(snapshot: Snapshot, screen: Screen, full_stacks: bool = False) -> list[str]:
    """Empty in reports that no mark has made."""
    heap, since = snapshot.heap, snapshot.since_mark
    if snapshot.mark is None or heap is None or since is None:
        return []
    lines = screen.paragraph(_summary(snapshot.mark, since), 6)
    if heap.reach is not None and heap.reach.error:
        lines += screen.paragraph(f"not scanned: {heap.reach.error}", 6)
    return [*lines, *stack_lines(_part(heap, since), None, screen, full_stacks, "(beyond --top)")]


def _summary(mark: int, since: SinceMark) -> str:
    interval = f"the {format_seconds(since.seconds)} since mark {mark - 1}"
    if not since.blocks:
        return f"mark {mark}: nothing that was allocated in {interval} is outstanding"
    blocks = f"{counted(since.blocks, 'block')} ({format_size(since.bytes)})"
    be = "is" if since.blocks == 1 else "are"
    return f"mark {mark}: {blocks} allocated in {interval} {be} outstanding{_classes(since.reach)}"


def _classes(reach: BlockCounts | None) -> str:
    if reach is None:
        return ""
    counts = [
        (reach.definite, "definitely lost"),
        (reach.indirect, "indirectly lost"),
        (reach.possible, "possibly lost"),
        (reach.reachable, "still reachable"),
        (reach.unknown, "not scanned"),
    ]
    return ": " + ", ".join(f"{count:,} {name}" for count, name in counts if count)


def _part(heap: HeapStats, since: SinceMark) -> HeapStats:
    """The heap as if it had only these blocks."""
    return replace(
        heap, live_blocks=since.blocks, live_bytes=since.bytes, inherited=0, young_stacks=()
    )
