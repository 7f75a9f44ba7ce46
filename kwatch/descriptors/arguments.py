# SPDX-License-Identifier: Apache-2.0
"""Numbers and paths from the registers and captured bytes of a call."""

from __future__ import annotations

import struct

from kwatch.model.traced_call import TracedCall

_INTS = struct.Struct("<ii")


def int_of(call: TracedCall, word: int) -> int:
    """A register as a signed number of 32 bits."""
    return ((call.arguments[word] & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def path_of(call: TracedCall, word: int) -> str | None:
    """A path, undecodable bytes as surrogates; None if it was not captured as a whole."""
    data = piece(call, word)
    if data is None:
        return None
    path, end, _ = data.partition(b"\0")
    return path.decode(errors="surrogateescape") if end else None


def piece(call: TracedCall, word: int) -> bytes | None:
    """What a register points to, as it was before the call, or after it."""
    found = call.pieces[word]
    return found if found is not None else call.pieces[word + 6]


def written(call: TracedCall, word: int) -> bytes | None:
    """What the call has written to where a register points."""
    return call.pieces[word + 6]


def two_ints(data: bytes | None) -> tuple[int, int] | None:
    if data is None or len(data) < _INTS.size:
        return None
    first, second = _INTS.unpack_from(data)
    return first, second


def word_of(data: bytes | None, at: int = 0) -> int | None:
    """64 bits of a structure."""
    if data is None or len(data) < at + 8:
        return None
    return int.from_bytes(data[at : at + 8], "little")
