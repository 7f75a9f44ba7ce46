# SPDX-License-Identifier: Apache-2.0
"""The heap of one process for people, compared with its snapshot before."""

from __future__ import annotations

from kwatch.model.snapshot import HeapStats, StackStats
from kwatch.sinks.table.screen import Screen, cell
from kwatch.sinks.table.stacks import where
from kwatch.units import format_growth, format_seconds, format_size

_HEADERS = ("BYTES", "GROWTH", "BLOCKS", "AGE")
_FIRST_HEADERS = ("BYTES", "BLOCKS", "AGE")


def heap_lines(
    heap: HeapStats, before: HeapStats | None, screen: Screen, full_stacks: bool = False
) -> list[str]:
    """`before` is the same process's heap one snapshot ago, None at the first."""
    summary = screen.paragraph(_summary(heap, before), 6)
    return [*summary, *_stack_lines(heap, before, screen, full_stacks)]


def _summary(heap: HeapStats, before: HeapStats | None) -> str:
    if heap == HeapStats():
        return "heap: nothing seen"
    live = f"heap: {format_size(heap.live_bytes)} live in {_count(heap.live_blocks, 'block')}"
    if before is not None:
        live += f" ({_growth(heap, before)})"
    if heap.inherited:
        live += f"; {heap.inherited:,} came with its fork"
    calls = [_count(heap.allocs, "alloc"), _count(heap.frees, "free")]
    if heap.failed_allocs:
        calls.append(f"{heap.failed_allocs:,} failed")
    if heap.unknown_frees:
        calls.append(f"{_count(heap.unknown_frees, 'free')} of blocks not seen allocated")
    return f"{live}; {', '.join(calls)}"


def _growth(heap: HeapStats, before: HeapStats) -> str:
    blocks = heap.live_blocks - before.live_blocks
    if not blocks and heap.live_bytes == before.live_bytes:
        return "unchanged"
    noun = "block" if abs(blocks) == 1 else "blocks"
    return f"{format_growth(heap.live_bytes - before.live_bytes)}, {blocks:+,} {noun}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _stack_lines(
    heap: HeapStats, before: HeapStats | None, screen: Screen, full: bool
) -> list[str]:
    if not heap.stacks:
        return []
    headers = _FIRST_HEADERS if before is None else _HEADERS
    rows = [[line[header] for header in headers] for line in _rows(heap, before)]
    room = screen.room_beside(headers, rows)
    places = [
        "\n".join(where(stack.frames, stack.ending, screen, room, full)) for stack in heap.stacks
    ]
    unlisted = "younger, inherited," if heap.inherited else "younger,"
    places += [f"({unlisted} or beyond --top)"] * (len(rows) - len(places))
    table = [[*row, place] for row, place in zip(rows, places, strict=True)]
    return screen.table([*headers, "WHERE"], table, left="WHERE")


def _rows(heap: HeapStats, before: HeapStats | None) -> list[dict[str, str]]:
    known = {} if before is None else {stack.stack: stack.bytes for stack in before.stacks}
    return [*(_row(stack, known.get(stack.stack)) for stack in heap.stacks), *_unlisted(heap)]


def _row(stack: StackStats, before: int | None) -> dict[str, str]:
    """A stack that the snapshot before did not list is `new`."""
    return {
        "BYTES": format_size(stack.bytes),
        "GROWTH": "new" if before is None else format_growth(stack.bytes - before),
        "BLOCKS": cell(stack.blocks),
        "AGE": format_seconds(stack.oldest_s),
    }


def _unlisted(heap: HeapStats) -> list[dict[str, str]]:
    """The live blocks that the listing's limits left out, so that the column adds up."""
    size = heap.live_bytes - sum(stack.bytes for stack in heap.stacks)
    blocks = heap.live_blocks - sum(stack.blocks for stack in heap.stacks)
    if size <= 0 or blocks <= 0:
        return []
    return [{"BYTES": format_size(size), "GROWTH": "", "BLOCKS": cell(blocks), "AGE": ""}]
