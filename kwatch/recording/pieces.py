# SPDX-License-Identifier: Apache-2.0
"""Takes apart what was captured of a call, from the columns that hold it."""

from __future__ import annotations

import itertools
import struct
from typing import TypeAlias

from kwatch.model.traced_call import Pieces
from kwatch.wire.events import NO_PIECE, PIECES

_LENGTHS = struct.Struct(f"<{PIECES}H")
_NO_PIECES: Pieces = (None,) * PIECES
_MAX_LAYOUTS = 65_536

#: Which pieces there are, and where each one begins and ends.
_Layout: TypeAlias = list[tuple[int, int, int]]


class PieceReader:
    """Many calls have the same layout, which is made once."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[bytes | None, bytes | None], _Layout] = {}

    def pieces(self, entry: bytes | None, leave: bytes | None, data: bytes, begin: int) -> Pieces:
        """`entry`, `leave`: the lengths of the pieces of the entry and of the return, which are in
        this order in `data`, from `begin` on. Of a piece that there is twice, the later counts."""
        if entry is None and leave is None:
            return _NO_PIECES
        found: list[bytes | None] = [None] * PIECES
        for number, start, end in self._layout(entry, leave):
            found[number] = data[begin + start : begin + end]
        return found

    def _layout(self, entry: bytes | None, leave: bytes | None) -> _Layout:
        layout = self._layouts.get((entry, leave))
        if layout is None:
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[entry, leave] = _layout(entry, leave)
        return layout


def _layout(entry: bytes | None, leave: bytes | None) -> _Layout:
    found: dict[int, tuple[int, int]] = {}
    at = 0
    for packed in filter(None, (entry, leave)):
        lengths = _LENGTHS.unpack(packed)
        ends = itertools.accumulate((0 if n == NO_PIECE else n for n in lengths), initial=at)
        for number, (length, start) in enumerate(zip(lengths, ends, strict=False)):
            if length != NO_PIECE:
                found[number] = start, start + length
                at = start + length
    return [(number, start, end) for number, (start, end) in found.items()]
