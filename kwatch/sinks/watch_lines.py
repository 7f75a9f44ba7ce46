# SPDX-License-Identifier: Apache-2.0
"""Hits of watchpoints as text: each place at its first hit, all with their counts at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kwatch.model.hit_place import Doubt, HitPlace
from kwatch.sinks.frame_text import frame_text, stack_texts
from kwatch.units import counted

_VERBS = {"w": "wrote", "rw": "accessed", "x": "ran"}
_PARTS = {"live": "in a block", "freed": "in a freed block", "end": "behind a block"}
_DOUBTS = {
    Doubt.NO_CODE: "the instruction before {ip:#x}; its code cannot be read",
    Doubt.JUMPED: "unsure which instruction: a jump or a return led to {ip:#x}",
    Doubt.TWO: "unsure which instruction: the one at {ip:#x}, or the one before it",
}
_UNSURE = ", unsure: events of the heap were lost, and it may be another block"
_ROW = 16  # bytes of a line of a dump


def place_text(place: HitPlace, dump: tuple[int, bytes] | None = None) -> str:
    """A place at its first hit. `dump`: memory around it and its address, read later."""
    lines = [f"{_clock(place.time_ns)} [{place.tid}] {_what(place)}", *_stack(place)]
    if dump is not None:
        lines += _dump(*dump)
    return "\n".join(lines) + "\n"


def final_text(places: Sequence[HitPlace], hits: int, seconds: float) -> str:
    """All places, the most frequent first."""
    where = counted(len(places), "place")
    lines = [f"{counted(hits, 'hit')} from {where}, watched for {seconds:.1f} s"]
    for place in sorted(places, key=lambda each: -each.count):
        threads = counted(len(place.threads), "thread")
        lines.append(f"{place.count:>9,}  {threads:12}  {_summary(place)}")
    return "\n".join(lines) + "\n"


def _what(place: HitPlace) -> str:
    who = "the kernel " * place.in_kernel
    call = f" for {place.call}" if place.call else ""
    where = f"{place.name} ({place.address:#x})" if place.access != "x" else place.name
    if place.block_size:
        size = counted(place.block_size, "byte")
        where = f"{place.address:#x} {_PARTS[place.part]} of {size}"
    now = f", now {place.value:#x}" if place.value is not None else ""
    allocator = ", inside the allocator" * place.by_allocator
    return f"{who}{_VERBS[place.access]} {where}{call}{now}{allocator}{_UNSURE * place.unsure}"


def _stack(place: HitPlace) -> list[str]:
    lines = [f"      {text}" for text in filter(None, [_instruction(place)])]
    lines += _frames(stack_texts([frame_text(frame) for frame in place.frames], place.ending))
    if place.allocated:
        lines += [" the block was allocated", *_frames(list(map(frame_text, place.allocated)))]
    return lines


def _frames(texts: Sequence[str]) -> list[str]:
    words = ("at", *["by"] * (len(texts) - 1)) if texts else ()
    return [f"   {word} {text}" for word, text in zip(words, texts, strict=True)]


def _instruction(place: HitPlace) -> str:
    if place.instruction is not None:
        return f"{place.instruction.address:#x}: {place.instruction.text}"
    return _DOUBTS[place.doubt].format(ip=place.ip) if place.doubt in _DOUBTS else ""


def _summary(place: HitPlace) -> str:
    at = frame_text(place.frames[0]) if place.frames else f"{place.ip:#x}"
    kernel = f"the kernel for {place.call or 'a fault or a signal'}, called " * place.in_kernel
    text = f": {place.instruction.text}" if place.instruction is not None else ""
    allocator = ", inside the allocator" * place.by_allocator
    return f"{kernel}at {at}{text}{allocator}{_UNSURE * place.unsure}"


def _dump(address: int, data: bytes) -> list[str]:
    if not data:
        return ["      the memory cannot be read any more"]
    rows = range(0, len(data), _ROW)
    return [f"      {address + row:#x}: {data[row : row + _ROW].hex(' ', 8)}" for row in rows]


def _clock(time_ns: int) -> str:
    """The time of day of a moment on the clock of the events."""
    at = time.time() - (time.monotonic_ns() - time_ns) / 1e9
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1e6):06}"
