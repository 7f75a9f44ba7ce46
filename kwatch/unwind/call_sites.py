# SPDX-License-Identifier: Apache-2.0
"""Tells whether a call instruction ends at an address, so that a function can return there.

A wrong frame pointer rarely leads to such an address.
"""

from __future__ import annotations

import struct

from kwatch.unwind.machines import ARM64, Machine

#: Bytes of the longest x86-64 call instruction, prefix included; those of arm64 are shorter.
MAX_LENGTH = 8

_X86_CALL, _X86_GROUP_5, _X86_CALL_OF_GROUP = 0xE8, 0xFF, 2
_X86_NEAR_SIZE = 5
#: Bytes of an indirect call without prefixes: opcode, ModRM, SIB and displacement.
_X86_INDIRECT_SIZES = (2, 3, 4, 6, 7)
_BL, _BL_MASK = 0x94000000, 0xFC000000
#: BLR and its variants with pointer authentication (BLRAA and others).
_BLR, _BLR_MASK = 0xD63F0000, 0xFEFFF000


def follows_call(machine: Machine, before: bytes) -> bool:
    """`before`: the MAX_LENGTH bytes of code before the address, fewer at the start of a file."""
    return _follows_arm64_call(before) if machine is ARM64 else _follows_x86_call(before)


def _follows_arm64_call(before: bytes) -> bool:
    if len(before) < 4:
        return False
    (word,) = struct.unpack("<I", before[-4:])
    return bool(word & _BL_MASK == _BL or word & _BLR_MASK == _BLR)


def _follows_x86_call(before: bytes) -> bool:
    if before[-_X86_NEAR_SIZE : -_X86_NEAR_SIZE + 1] == bytes([_X86_CALL]):
        return True
    sizes = [size for size in _X86_INDIRECT_SIZES if size <= len(before)]
    return any(_is_indirect_call(before[-size:]) for size in sizes)


def _is_indirect_call(code: bytes) -> bool:
    """Whether the bytes are one indirect call: its ModRM byte says how long it is."""
    mode, operation, register = code[1] >> 6, code[1] >> 3 & 7, code[1] & 7
    if code[0] != _X86_GROUP_5 or operation != _X86_CALL_OF_GROUP:
        return False
    has_sib = mode != 3 and register == 4
    size = 2 + has_sib
    if mode == 0 and len(code) > 2:
        has_no_base = (code[2] & 7 if has_sib else register) == 5
        return len(code) == size + 4 * has_no_base
    return len(code) == size + (0, 1, 4, 0)[mode]
