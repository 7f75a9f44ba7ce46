# SPDX-License-Identifier: Apache-2.0
"""The wrappers of the allocator in one process, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from kwatch.model.snapshot import Wrapper
from kwatch.sinks.table.names import shortened
from kwatch.sinks.table.screen import Screen, cell

_HEADERS = ("BLOCKS", "CALLERS", "SIZES", "DIRECT", "SHOWN BY")


def wrapper_lines(wrappers: Sequence[Wrapper] | None, screen: Screen) -> list[str]:
    """Empty if they are not wanted."""
    if wrappers is None:
        return []
    if not wrappers:
        return ["no wrapper of the allocator was found"]
    rows = [
        [
            cell(one.blocks),
            cell(one.callers),
            cell(one.sizes),
            f"{one.confidence:.0%}",
            str(one.evidence),
        ]
        for one in wrappers
    ]
    room = screen.room_beside(_HEADERS, rows)
    names = [_name(one, screen, room) for one in wrappers]
    table = [[*row, name] for row, name in zip(rows, names, strict=True)]
    return screen.table([*_HEADERS, "ALLOCATES FOR OTHERS"], table, left="ALLOCATES FOR OTHERS")


def _name(wrapper: Wrapper, screen: Screen, room: int) -> str:
    module = PurePath(wrapper.module).name
    function = shortened(wrapper.function, screen, max(room - len(module) - 1, room // 2))
    return screen.clip(f"{function} {module}", room)
