# SPDX-License-Identifier: Apache-2.0
"""A flame graph as one HTML page that works offline; flamegraph.html draws it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources

from kwatch.model.frame import Frame
from kwatch.sinks.profiles.unit import (
    ALLOC_SPACE,
    INUSE_SPACE,
    MEASURES,
    Measure,
    ProcessProfile,
    frames_of,
    losses,
    name_of,
    path_of,
)

_TEMPLATE = "flamegraph.html"


def flamegraph(units: Sequence[ProcessProfile]) -> bytes:
    title = f"kwatch {', '.join(unit.name for unit in units[:3])}{' ...' * (len(units) > 3)}"
    tree = _Tree()
    for unit in units:
        tree.add(unit)
    data = {
        "title": title,
        "note": losses(units),
        "measures": [[measure.title, measure.unit] for measure in MEASURES],
        "shown": MEASURES.index(_shown(units)),
        "names": tree.names,
        "nodes": tree.rows,
    }
    page = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    # No name may close the element that holds the data.
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = page.replace("{{title}}", html.escape(title).replace("{", "&#123;"), 1)
    return page.replace("{{data}}", embedded, 1).encode()


def _shown(units: Sequence[ProcessProfile]) -> Measure:
    """Outstanding bytes, or allocated bytes if nothing is outstanding."""
    stacks = [stack for unit in units for stack in unit.profile.stacks]
    with_some = (one for one in (INUSE_SPACE, ALLOC_SPACE) if any(map(one.of, stacks)))
    return next(with_some, INUSE_SPACE)


class _Tree:
    """`rows` are nodes: index of the parent, index of the name, source line, total per measure."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[list[int]] = []
        self._name_index: dict[str, int] = {}
        self._children: dict[tuple[int, int, int], int] = {}

    def add(self, unit: ProcessProfile) -> None:
        root = self._node(-1, unit.name, 0)
        for stack in unit.profile.stacks:
            values = [measure.of(stack) for measure in MEASURES]
            path = [root]
            for frame in reversed(frames_of(stack)):
                path.append(self._node(path[-1], _label(frame), frame.line))
            for node in path:
                row = self.rows[node]
                for place, value in enumerate(values, 3):
                    row[place] += value

    def _node(self, parent: int, name: str, line: int) -> int:
        named = self._name_index.setdefault(name, len(self.names))
        if named == len(self.names):
            self.names.append(name)
        key = parent, named, line
        node = self._children.setdefault(key, len(self.rows))
        if node == len(self.rows):
            self.rows.append([parent, named, line, *([0] * len(MEASURES))])
        return node


def _label(frame: Frame) -> str:
    """Function, file and `inlined`, separated by tabs."""
    file = path_of(frame.file or frame.module)
    return f"{name_of(frame)}\t{file}\t{'inlined' if frame.inlined else ''}"
