# SPDX-License-Identifier: Apache-2.0
"""The heap of one process for people, compared with its previous snapshot."""

from __future__ import annotations

import textwrap

from kwatch.model.reach import HeapReach
from kwatch.model.snapshot import HeapStats, StackStats
from kwatch.sinks.release_text import release_sentence
from kwatch.sinks.table.differences import distinct_texts
from kwatch.sinks.table.screen import Screen, cell
from kwatch.sinks.table.stacks import Marks, StackText
from kwatch.units import counted, format_growth, format_seconds, format_size

_HEADERS = ("LOST", "BYTES", "GROWTH", "BLOCKS", "AGE")
_YOUNG = "(younger than --older)"


def heap_lines(
    heap: HeapStats, before: HeapStats | None, screen: Screen, full_stacks: bool = False
) -> list[str]:
    """`before` is the heap of the same process one snapshot ago, None at the first."""
    lines = screen.paragraph(_summary(heap, before), 6)
    if heap.reach is not None and not heap.reach.error:
        lines = [*lines, *screen.paragraph(f"scan: {reach_text(heap.reach)}", 6)]
    unlisted = f"({'inherited, ' * bool(heap.inherited)}younger than --older, or beyond --top)"
    return [*lines, *stack_lines(heap, before, screen, full_stacks, unlisted)]


def _summary(heap: HeapStats, before: HeapStats | None) -> str:
    """Empty if nothing has happened."""
    events = ", ".join(_events(heap))
    is_tracked = heap.live_blocks or heap.allocs or heap.inherited
    parts = [*([_live(heap, before)] if is_tracked else []), *([events] if events else [])]
    return f"heap: {'; '.join(parts)}" if parts else ""


def reach_text(reach: HeapReach) -> str:
    """The classes of all blocks, and how long it took to find them."""
    classes = [
        (reach.definite, "definitely lost"),
        (reach.indirect, "indirectly lost"),
        (reach.possible, "possibly lost"),
        (reach.reachable, "still reachable"),
    ]
    found = [
        f"{counted(amount.blocks, 'block')} ({format_size(amount.bytes)}) {name}"
        for amount, name in classes
        if amount.blocks
    ]
    took = f"{counted(reach.scans, 'scan')} in {format_seconds(reach.seconds)}"
    if reach.stopped_s:
        took += f", stopped for {format_seconds(reach.stopped_s)}"
    return f"{', '.join(found) or 'no blocks'}; {took}"


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
        (heap.unknown_frees, _unknown_frees(heap)),
    ]
    return [text for count, text in counts if count]


def _unknown_frees(heap: HeapStats) -> str:
    frees = counted(heap.unknown_frees, "free")
    if heap.unknown_frees == heap.thread_end_frees:
        return f"{frees} by glibc as threads ended"
    blocks = "a block" if heap.unknown_frees == 1 else "blocks"
    return f"{frees} of {blocks} kwatch did not see allocated"


def stack_lines(
    heap: HeapStats, before: HeapStats | None, screen: Screen, full: bool, unlisted: str
) -> list[str]:
    """`unlisted`: what the live blocks are that no stack lists."""
    if not heap.stacks and not heap.young_stacks:
        return []
    wanted = {"LOST": _loses(heap), "GROWTH": before is not None}
    headers = [header for header in _HEADERS if wanted.get(header, True)]
    rows = [[line[header] for header in headers] for line in _rows(heap, before)]
    room = screen.room_beside(headers, rows)
    text = StackText(screen, room, full)
    places = [
        f"{place}{_release(stack, screen, room)}"
        for place, stack in zip(_places(heap.stacks, text), heap.stacks, strict=True)
    ]
    places += [f"{place}\n{_YOUNG}" for place in _places(heap.young_stacks, text)]
    places += [screen.clip(unlisted, room)] * (len(rows) - len(places))
    table = [[*row, place] for row, place in zip(rows, places, strict=True)]
    return screen.table([*headers, "WHERE"], table, left="WHERE")


def _loses(heap: HeapStats) -> bool:
    return any(stack.lost_bytes for stack in (*heap.stacks, *heap.young_stacks))


def _places(stacks: tuple[StackStats, ...], text: StackText) -> list[str]:
    def place(stack: StackStats, marks: Marks) -> str:
        return "\n".join(text.lines(stack.frames, stack.ending, marks))

    return distinct_texts(stacks, place)


def _release(stack: StackStats, screen: Screen, room: int) -> str:
    """Where the blocks should have been freed, on lines of their own."""
    if stack.release is None:
        return ""
    sentence = screen.clean(release_sentence(stack.release, stack.blocks))
    lines = textwrap.wrap(sentence, room, break_on_hyphens=False)
    return "".join(f"\n{screen.clip(line, room)}" for line in lines)


def _rows(heap: HeapStats, before: HeapStats | None) -> list[dict[str, str]]:
    known = {} if before is None else {stack.stack: stack.bytes for stack in before.stacks}
    rows = [_row(stack, known.get(stack.stack)) for stack in heap.stacks]
    rows += [_row(stack, stack.bytes) for stack in heap.young_stacks]
    return [*rows, *_unlisted(heap)]


def _row(stack: StackStats, before: int | None) -> dict[str, str]:
    """A stack that the previous snapshot did not list is `new`; no growth is blank."""
    grown = stack.bytes - before if before is not None else 0
    return {
        "LOST": format_size(stack.lost_bytes) if stack.lost_bytes else "",
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
    return [
        {"LOST": "", "BYTES": format_size(size), "GROWTH": "", "BLOCKS": cell(blocks), "AGE": ""}
    ]
