# SPDX-License-Identifier: Apache-2.0
"""Reads numbers and pointers as DWARF and `.eh_frame` encode them.

Every function takes the data and a position, and returns the value and the position after it. It
raises `Malformed` if the data ends, or if linked files do not use the encoding.
"""

from __future__ import annotations

_PCREL, _ALIGNED = 0x10, 0x50
_ABSOLUTE, _ULEB, _SLEB = 0x00, 0x01, 0x09
_INDIRECT, _OMITTED = 0x80, 0xFF
#: (size, signed) of the fixed formats: DW_EH_PE_udata2 and so on (LSB, "DWARF Extensions").
_FIXED = {
    0x00: (8, False),
    0x02: (2, False),
    0x03: (4, False),
    0x04: (8, False),
    0x0A: (2, True),
    0x0B: (4, True),
    0x0C: (8, True),
}
_MASK = (1 << 64) - 1
_LEB_BYTES = 10

FORMAT_MASK = 0x0F


class Malformed(Exception):
    """The unwind information is damaged, or of a kind that linked files do not have."""


def read_uint(data: bytes, at: int, size: int) -> tuple[int, int]:
    end = at + size
    if end > len(data):
        raise Malformed("the data ends inside a number")
    return int.from_bytes(data[at:end], "little"), end


def read_uleb(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(_LEB_BYTES):
        byte, at = read_uint(data, at, 1)
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at
    raise Malformed("LEB128 number of more than 64 bits")


def read_sleb(data: bytes, at: int) -> tuple[int, int]:
    value, end = read_uleb(data, at)
    bits = 7 * (end - at)
    return value - (1 << bits) if value >> (bits - 1) else value, end


def read_pointer(data: bytes, at: int, encoding: int, vaddr: int) -> tuple[int, int]:
    """An encoded address; `vaddr` is that of `data[0]`. Does not follow indirect pointers."""
    if encoding == _OMITTED:
        return 0, at
    relative = encoding & 0x70
    if relative == _ALIGNED:
        at += -(vaddr + at) % 8
    elif relative not in (_ABSOLUTE, _PCREL):
        raise Malformed(f"pointer encoded as {encoding:#x}")
    value, end = read_format(data, at, encoding & FORMAT_MASK)
    if relative == _PCREL:
        value += vaddr + at
    return value & _MASK, end


def read_format(data: bytes, at: int, form: int) -> tuple[int, int]:
    """A number in the format that the low bits of a pointer encoding name."""
    if form == _ULEB:
        return read_uleb(data, at)
    if form == _SLEB:
        return read_sleb(data, at)
    if form not in _FIXED:
        raise Malformed(f"pointer of format {form:#x}")
    size, signed = _FIXED[form]
    value, end = read_uint(data, at, size)
    return value - (1 << 8 * size) if signed and value >> (8 * size - 1) else value, end
