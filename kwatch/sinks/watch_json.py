# SPDX-License-Identifier: Apache-2.0
"""Hits of watchpoints as JSON, one object per line (see docs/json.md)."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.hit_place import HitPlace
from kwatch.sinks.jsonl import members, text_of


def place_line(place: HitPlace, dump: tuple[int, bytes] | None = None) -> str:
    """A place at its first hit."""
    found = {"kind": "hit", **_place(place)}
    if dump is not None:
        found["dump"] = {"address": hex(dump[0]), "bytes": dump[1].hex()}
    return text_of(found) + "\n"


def final_line(
    places: Sequence[HitPlace], hits: int, seconds: float, missed: int, lost: dict[str, int]
) -> str:
    """`missed`: hits that the kernel has counted and kwatch has not recorded."""
    record: dict[str, object] = {
        "kind": "final",
        "watched_s": round(seconds, 3),
        "hits": hits,
        "missed": missed,
        "lost": lost,
        "places": [_place(place) for place in places],
    }
    return text_of(record) + "\n"


def _place(place: HitPlace) -> dict[str, object]:
    found = members(place)
    instruction = place.instruction
    return found | {
        "address": hex(place.address),
        "ip": hex(place.ip),
        "value": hex(place.value) if place.value is not None else None,
        "instruction": {"address": hex(instruction.address), "text": instruction.text}
        if instruction is not None
        else None,
        "frames": [members(frame) | {"address": hex(frame.address)} for frame in place.frames],
        "count": place.count,
        "threads": {str(tid): count for tid, count in sorted(place.threads.items())},
    }
