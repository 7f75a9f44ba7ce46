# SPDX-License-Identifier: Apache-2.0
"""Hits of watchpoints as JSON, one object per line (see docs/json.md)."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.frame import Frame
from kwatch.model.hit_place import HitPlace
from kwatch.sinks.jsonl import members, text_of


def place_line(place: HitPlace, dump: tuple[int, bytes] | None = None) -> str:
    """A place at its first hit."""
    found = {"kind": "hit", **_place(place)}
    if dump is not None:
        found["dump"] = {"address": hex(dump[0]), "bytes": dump[1].hex()}
    return text_of(found) + "\n"


def block_line(number: int, address: int, length: int, size: int) -> str:
    """The next block is watched, of `size` bytes: `length` of them at `address`."""
    where = {"address": hex(address), "length": length, "block_size": size}
    return text_of({"kind": "watching", "block": number, **where}) + "\n"


def final_line(
    places: Sequence[HitPlace], hits: int, of_run: dict[str, object], lost: dict[str, int]
) -> str:
    """`of_run`: about the run as a whole."""
    record: dict[str, object] = {
        "kind": "final",
        "hits": hits,
        **of_run,
        "lost": lost,
        "places": [_place(place) for place in places],
    }
    return text_of(record) + "\n"


def _frames(frames: Sequence[Frame]) -> list[dict[str, object]]:
    return [members(frame) | {"address": hex(frame.address)} for frame in frames]


def _place(place: HitPlace) -> dict[str, object]:
    found = members(place)
    del found["block_stack"]
    instruction = place.instruction
    return found | {
        "address": hex(place.address),
        "ip": hex(place.ip),
        "value": hex(place.value) if place.value is not None else None,
        "instruction": {"address": hex(instruction.address), "text": instruction.text}
        if instruction is not None
        else None,
        "frames": _frames(place.frames),
        "allocated": _frames(place.allocated),
        "count": place.count,
        "threads": {str(tid): count for tid, count in sorted(place.threads.items())},
    }
