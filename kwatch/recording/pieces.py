# SPDX-License-Identifier: Apache-2.0
"""What was captured of one call, from the columns that hold it."""

from __future__ import annotations

import struct

from kwatch.model.traced_call import Pieces
from kwatch.wire.events import NO_PIECE, PIECES

_LENGTHS = struct.Struct(f"<{PIECES}H")
_NO_PIECES: Pieces = (None,) * PIECES


def pieces(entry: bytes | None, leave: bytes | None, data: bytes) -> Pieces:
    """`entry`, `leave`: the lengths of the pieces of the entry and of the return, in this order in
    `data`. Of a piece that there is twice, the later one counts."""
    if entry is None and leave is None:
        return _NO_PIECES
    found: list[bytes | None] = [None] * PIECES
    at = 0
    for lengths in (entry, leave):
        for number, length in enumerate(_LENGTHS.unpack(lengths) if lengths is not None else ()):
            if length != NO_PIECE:
                found[number] = data[at : at + length]
                at += length
    return found
