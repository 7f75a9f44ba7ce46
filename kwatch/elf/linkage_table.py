# SPDX-License-Identifier: Apache-2.0
"""Where the entries of the procedure linkage table lead: the slots that the loader fills in."""

from __future__ import annotations

import re

from kwatch.elf.elf import Elf
from kwatch.elf.machine_code import EM_AARCH64

_PLT_JUMP = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xf2?\xff\x25(....)", re.DOTALL)
_BTI_C = b"\x5f\x24\x03\xd5"


def through_slot(elf: Elf, address: int, slots: dict[int, int]) -> int:
    """The final target of a branch to an entry of the procedure linkage table."""
    slot = slot_of(elf, address)
    return address if slot is None else slots.get(slot, address)


def slot_of(elf: Elf, address: int) -> int | None:
    """The slot through which the code at an address jumps on; None if it is no such code."""
    if elf.offset_of(address) is None:
        return None
    code = elf.read(address, 20)
    return _arm_slot(code, address) if elf.machine == EM_AARCH64 else _x86_slot(code, address)


def _x86_slot(code: bytes, address: int) -> int | None:
    """The slot that `jmp *slot(%rip)` at this address goes through."""
    jump = _PLT_JUMP.match(code)
    if jump is None:
        return None
    return address + jump.end() + int.from_bytes(jump[1], "little", signed=True)


def _arm_slot(code: bytes, address: int) -> int | None:
    """The slot of `adrp x16, page; ldr x17, [x16, offset]`, which may follow a `bti c`."""
    if code.startswith(_BTI_C):
        code, address = code[4:], address + 4
    if len(code) < 8:
        return None
    adrp, ldr = (int.from_bytes(code[at : at + 4], "little") for at in (0, 4))
    if adrp & 0x9F00001F != 0x90000010 or ldr & 0xFFC003FF != 0xF9400211:
        return None
    pages = (adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3
    if pages & 1 << 20:
        pages -= 1 << 21
    return (address & ~0xFFF) + (pages << 12) + (ldr >> 10 & 0xFFF) * 8
