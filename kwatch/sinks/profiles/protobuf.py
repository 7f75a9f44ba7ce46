# SPDX-License-Identifier: Apache-2.0
"""Writes protocol buffers: https://protobuf.dev/programming-guides/encoding, without schemas."""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _BYTES = 0, 2


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first. `number` is not negative."""
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def integer(field: int, number: int) -> bytes:
    """A field of an integer; nothing for 0, which is what an absent one means."""
    return varint(field << 3 | _VARINT) + varint(number) if number else b""


def nested(field: int, data: bytes) -> bytes:
    """A field of a message or of a string in UTF-8."""
    return varint(field << 3 | _BYTES) + varint(len(data)) + data


def packed(field: int, numbers: Iterable[int]) -> bytes:
    """A repeated field of integers."""
    return nested(field, b"".join(map(varint, numbers)))
