# SPDX-License-Identifier: Apache-2.0
"""The heap of one process for people, compared with its previous snapshot."""

from __future__ import annotations

from kwatch.model.snapshot import HeapStats, StackStats
from kwatch.sinks.table.differences import distinct_texts
from kwatch.sinks.table.screen import Screen, cell
from kwatch.sinks.table.stacks import Marks, StackText
from kwatch.units import counted, format_growth, format_seconds, format_size

_HEADERS = ("BYTES", "GROWTH", "BLOCKS", "AGE")
_FIRST_HEADERS = ("BYTES", "BLOCKS", "AGE")
_YOUNG = "(younger than --older)"


def heap_lines(
    heap: HeapStats, before: HeapStats | None, screen: Screen, full_stacks: bool = False
) -> list[str]:
    """`before` is the heap of the same process one snapshot ago, None at the first."""
    summary = screen.paragraph(_summary(heap, before), 6)
    return [*summary, *_stack_lines(heap, before, screen, full_stacks)]


def _summary(heap: HeapStats, before: HeapStats | None) -> str:
    """Empty if nothing has happened."""
    events = ", ".join(_events(heap))
    is_tracked = heap.live_blocks or heap.allocs or heap.inherited
    parts = [*([_live(heap, before)] if is_tracked else []), *([events] if events else [])]
    return f"heap: {'; '.join(parts)}" if parts else ""


def _live(heap: HeapStats, before: HeapStats | None) -> str:
    live = "nothing live"
    if heap.live_blocks:
        live = f"{format_size(heap.live_bytes)} live in {counted(heap.live_blocks, 'block')}"
    return live if before is None else f"{live} ({_growth(heap, before)})"


def _growth(heap: HeapStats, before: HeapStats) -> str:
    size = heap.live_bytes - before.live_bytes
    blocks = heap.live_blocks - before.live_blocks
    grown = [format_growth(size)] if size else []
    grown += ["+" * (blocks > 0) + counted(blocks, "block")] if blocks else []
    return ", ".join(grown) or "unchanged"


def _events(heap: HeapStats) -> list[str]:
    counts = [
        (heap.inherited, f"{counted(heap.inherited, 'block')} inherited at fork"),
        (heap.allocs, counted(heap.allocs, "alloc")),
        (heap.frees, counted(heap.frees, "free")),
        (heap.failed_allocs, counted(heap.failed_allocs, "failed alloc")),
        (heap.unknown_frees, _unknown_frees(heap.unknown_frees)),
    ]
    return [text for count, text in counts if count]


def _unknown_frees(count: int) -> str:
    blocks = "a block" if count == 1 else "blocks"
    return f"{counted(count, 'free')} of {blocks} kwatch did not see allocated"


def _stack_lines(
    heap: HeapStats, before: HeapStats | None, screen: Screen, full: bool
) -> list[str]:
    if not heap.stacks and not heap.young_stacks:
        return []
    headers = _FIRST_HEADERS if before is None else _HEADERS
    rows = [[line[header] for header in headers] for line in _rows(heap, before)]
    room = screen.room_beside(headers, rows)
    text = StackText(screen, room, full)
    places = _places(heap.stacks, text)
    places += [f"{place}\n{_YOUNG}" for place in _places(heap.young_stacks, text)]
    unlisted = f"({'inherited, ' * bool(heap.inherited)}younger than --older, or beyond --top)"
    places += [screen.clip(unlisted, room)] * (len(rows) - len(places))
    table = [[*row, place] for row, place in zip(rows, places, strict=True)]
    return screen.table([*headers, "WHERE"], table, left="WHERE")


def _places(stacks: tuple[StackStats, ...], text: StackText) -> list[str]:
    def place(stack: StackStats, marks: Marks) -> str:
        return "\n".join(text.lines(stack.frames, stack.ending, marks))

    return distinct_texts(stacks, place)


def _rows(heap: HeapStats, before: HeapStats | None) -> list[dict[str, str]]:
    known = {} if before is None else {stack.stack: stack.bytes for stack in before.stacks}
    rows = [_row(stack, known.get(stack.stack)) for stack in heap.stacks]
    rows += [_row(stack, stack.bytes) for stack in heap.young_stacks]
    return [*rows, *_unlisted(heap)]


def _row(stack: StackStats, before: int | None) -> dict[str, str]:
    """A stack that the previous snapshot did not list is `new`; no growth is blank."""
    grown = stack.bytes - before if before is not None else 0
    return {
        "BYTES": format_size(stack.bytes),
        "GROWTH": "new" if before is None else format_growth(grown) if grown else "",
        "BLOCKS": cell(stack.blocks),
        "AGE": format_seconds(stack.oldest_s),
    }


def _unlisted(heap: HeapStats) -> list[dict[str, str]]:
    """The live blocks that the limits of the listing left out, so that the column adds up."""
    listed = (*heap.stacks, *heap.young_stacks)
    size = heap.live_bytes - sum(stack.bytes for stack in listed)
    blocks = heap.live_blocks - sum(stack.blocks for stack in listed)
    if size <= 0 or blocks <= 0:
        return []
    return [{"BYTES": format_size(size), "GROWTH": "", "BLOCKS": cell(blocks), "AGE": ""}]
