# SPDX-License-Identifier: Apache-2.0
"""Profiles for speedscope.app: four for each process, outstanding bytes first.

Schema: https://www.speedscope.app/file-format-schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from kwatch.model.frame import Frame
from kwatch.sinks.profiles.unit import (
    MEASURES,
    Measure,
    ProcessProfile,
    frames_of,
    losses,
    name_of,
    path_of,
)

_UNITS = {"bytes": "bytes", "count": "none"}


def speedscope(units: Sequence[ProcessProfile]) -> bytes:
    frames = _Frames()
    profiles = [profile for unit in units for profile in _profiles(unit, frames)]
    title = f"kwatch {', '.join(unit.name for unit in units[:3])}{' ...' * (len(units) > 3)}"
    document = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "kwatch",
        "name": f"{title} ({lost})" if (lost := losses(units)) else title,
        "activeProfileIndex": next((n for n, one in enumerate(profiles) if one["samples"]), 0),
        "shared": {"frames": frames.rows},
        "profiles": profiles,
    }
    return json.dumps(document, separators=(",", ":")).encode()


class _Frames:
    """The table of frames that the profiles index."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self._index: dict[tuple[str, str, int], int] = {}

    def index(self, frame: Frame) -> int:
        name = name_of(frame) + (" (inlined)" if frame.inlined else "")
        key = name, path_of(frame.file or frame.module), frame.line
        known = self._index.setdefault(key, len(self.rows))
        if known == len(self.rows):
            self.rows.append(_row(*key))
        return known


def _row(name: str, file: str, line: int) -> dict[str, object]:
    row: dict[str, object] = {"name": name}
    if file:
        row["file"] = file
    if line:
        row["line"] = line
    return row


def _profiles(unit: ProcessProfile, frames: _Frames) -> Iterator[dict[str, object]]:
    stacks = unit.profile.stacks
    paths = [[frames.index(frame) for frame in reversed(frames_of(stack))] for stack in stacks]
    for measure in reversed(MEASURES):
        chosen = [(path, n) for path, s in zip(paths, stacks, strict=True) if (n := measure.of(s))]
        yield _profile(unit.name, measure, chosen)


def _profile(
    name: str, measure: Measure, chosen: Sequence[tuple[list[int], int]]
) -> dict[str, object]:
    return {
        "type": "sampled",
        "name": f"{name} {measure.title}",
        "unit": _UNITS[measure.unit],
        "startValue": 0,
        "endValue": sum(weight for _, weight in chosen),
        "samples": [path for path, _ in chosen],
        "weights": [weight for _, weight in chosen],
    }
