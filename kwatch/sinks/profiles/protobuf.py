# SPDX-License-Identifier: Apache-2.0
"""Encodes protocol buffers without schemas: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _BYTES = 0, 2


def varint(number: int) -> bytes:
    """Seven bits per byte, the lowest first. `number` is not negative."""
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def integer(field: int, number: int) -> bytes:
    """An integer field; empty for 0, which is the default of an absent field."""
    return varint(field << 3 | _VARINT) + varint(number) if number else b""


def nested(field: int, data: bytes) -> bytes:
    """A field that holds a message or a UTF-8 string."""
    return varint(field << 3 | _BYTES) + varint(len(data)) + data


def packed(field: int, numbers: Iterable[int]) -> bytes:
    """A repeated integer field."""
    return nested(field, b"".join(map(varint, numbers)))
