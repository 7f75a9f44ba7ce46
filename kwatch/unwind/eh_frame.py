# SPDX-License-Identifier: Apache-2.0
"""Reads the entries of `.eh_frame`: the code that each describes, and its instructions.

Layout: LSB Core, "Exception Frames". Reading stops at a damaged entry, because its length leads to
the next one. An entry of an unknown kind is skipped, and its code has no rows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from kwatch.unwind.encoding import (
    FORMAT_MASK,
    Malformed,
    read_format,
    read_pointer,
    read_uint,
    read_uleb,
)

_PCREL_SDATA4 = 0x1B
_SIZE_OF_64_BIT = 0xFFFFFFFF
_ENTRY = struct.Struct("<II")
_FAST_FDE = struct.Struct("<iIB")
_MASK = (1 << 64) - 1
_MAX_CIE = 4096  # bytes; compilers write less than 100


class Cie(NamedTuple):
    """What FDEs share. Equal CIEs have equal hashes, so `CfiPrograms` runs each once."""

    code_align: int
    data_align: int
    return_register: int
    is_signal: bool
    has_augmentation_data: bool
    pointer_encoding: int
    instructions: bytes


class Fde(NamedTuple):
    """The instructions for the code at [start, start + size), a virtual address of the file."""

    start: int
    size: int
    cie: Cie
    instructions: bytes


def read_entries(data: bytes, vaddr: int) -> Iterator[Fde]:
    """Each FDE of a section at address `vaddr`, in order, up to the first damaged entry."""
    cies: dict[int, Cie | None] = {}
    at, end = 0, len(data)
    while at + 8 <= end:
        length, reference = _ENTRY.unpack_from(data, at)
        body = at + 8
        if length == _SIZE_OF_64_BIT:
            if at + 20 > end:
                return
            length = int.from_bytes(data[at + 4 : at + 12], "little")
            reference = int.from_bytes(data[at + 12 : at + 16], "little")
            body = at + 16
        following = body - 4 + length
        if length < 4 or following > end:
            return  # damaged, or the zero that ends the section
        if reference:
            cie_at = body - 4 - reference
            if cie_at not in cies:
                cies[cie_at] = _cie_at(data, cie_at, vaddr)
            cie = cies[cie_at]
            fde = _read_fde(data, body, following, cie, vaddr) if cie else None
            if fde:
                yield fde
        at = following


def _read_fde(data: bytes, at: int, end: int, cie: Cie, vaddr: int) -> Fde | None:
    if cie.pointer_encoding == _PCREL_SDATA4 and cie.has_augmentation_data and at + 9 <= end:
        start, size, augmentation = _FAST_FDE.unpack_from(data, at)
        instructions = at + 9 + augmentation
        if augmentation < 0x80 and instructions <= end:
            return Fde((start + vaddr + at) & _MASK, size, cie, data[instructions:end])
    try:
        return _read_any_fde(data[at:end], cie, vaddr + at)
    except Malformed:
        return None


def _read_any_fde(data: bytes, cie: Cie, vaddr: int) -> Fde:
    """`data` is what follows the reference to the CIE."""
    start, at = read_pointer(data, 0, cie.pointer_encoding, vaddr)
    size, at = read_format(data, at, cie.pointer_encoding & FORMAT_MASK)
    if cie.has_augmentation_data:
        skipped, at = read_uleb(data, at)
        at += skipped
    return Fde(start, size, cie, data[at:])


def _cie_at(data: bytes, at: int, vaddr: int) -> Cie | None:
    """None if no CIE is there, or one that cannot be understood."""
    if at < 0:
        return None
    try:
        length, body = read_uint(data, at, 4)
        if length == _SIZE_OF_64_BIT:
            length, body = read_uint(data, at + 4, 8)
        reference, _ = read_uint(data, body, 4)
        if reference or not 4 <= length <= _MAX_CIE or body + length > len(data):
            return None
        return _read_cie(data[body + 4 : body + length], vaddr + body + 4)
    except Malformed:
        return None


def _read_cie(data: bytes, vaddr: int) -> Cie:
    """`data` is what follows the id."""
    version, at = read_uint(data, 0, 1)
    end = data.find(b"\0", at)
    if version not in (1, 3, 4) or end < 0:
        raise Malformed(f"CIE of version {version}")
    augmentation, at = data[at:end], end + 1
    if augmentation and augmentation[:1] != b"z":
        raise Malformed("augmentation of unknown size")
    if version == 4:
        at += 2  # the sizes of addresses and segment selectors
    code_align, at = read_uleb(data, at)
    data_align, at = read_format(data, at, 0x09)
    return_register, at = read_uint(data, at, 1) if version == 1 else read_uleb(data, at)
    encoding, is_signal = 0, False
    if augmentation:
        size, at = read_uleb(data, at)
        encoding, is_signal = _read_augmentation(data[: at + size], at, augmentation[1:], vaddr)
        at += size
    instructions = data[at:]
    return Cie(
        code_align,
        data_align,
        return_register,
        is_signal,
        bool(augmentation),
        encoding,
        instructions,
    )


def _read_augmentation(data: bytes, at: int, letters: bytes, vaddr: int) -> tuple[int, bool]:
    """(encoding of addresses in FDEs, whether the FDEs describe signal frames)."""
    encoding, is_signal = 0, False
    for letter in letters:
        match chr(letter):
            case "R":
                encoding, at = read_uint(data, at, 1)
            case "P":
                personality, at = read_uint(data, at, 1)
                _, at = read_pointer(data, at, personality & 0x7F, vaddr)
            case "L":
                at += 1
            case "S":
                is_signal = True
            case "B" | "G":
                pass  # arm64: the key that signs return addresses; tagged memory
            case _:
                break  # the size of the augmentation data tells where it ends
    return encoding, is_signal
