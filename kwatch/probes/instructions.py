# SPDX-License-Identifier: Apache-2.0
"""Decodes the machine code of functions: straight lines of instructions, and where jumps lead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from kwatch.elf.elf import Elf, Function

if TYPE_CHECKING:
    import capstone

EM_AARCH64 = 183
#: The target of a jump that depends on a register or on memory.
UNKNOWN = -1

_CHUNK = 64  # bytes that are decoded at a time
_MAX_BODY = 1 << 14  # bytes in which branches back are looked for
_BRANCH = re.compile(r"j|call|b$|bl$|b\.|cb|tb")
_PLT_JUMP = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xf2?\xff\x25(....)", re.DOTALL)
_BTI_C = b"\x5f\x24\x03\xd5"
_ADDRESS = re.compile(r"0x[0-9a-f]+")
#: Nothing runs behind these. Compilers fill the space between functions with int3 or udf.
_ENDS = frozenset("jmp b br braa brab braaz brabz ud0 ud1 ud2 hlt int3 udf brk".split())


@cache
def disassembler(machine: int, detail: bool) -> Any:
    import capstone

    if machine == EM_AARCH64:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    else:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = detail
    return engine


def straight_line(elf: Elf, address: int) -> Iterator[capstone.CsInsn]:
    """The instructions from an address on, as far as the file has code."""
    engine = disassembler(elf.machine, True)
    while elf.offset_of(address) is not None:
        code = elf.read(address, _CHUNK)
        before = address
        for instruction in engine.disasm(code, address):
            yield instruction
            address += instruction.size
        if address == before:
            return


def is_return(instruction: capstone.CsInsn) -> bool:
    import capstone

    return bool(instruction.group(capstone.CS_GRP_RET))


def never_goes_on(instruction: capstone.CsInsn) -> bool:
    """Whether what follows the instruction never runs after it."""
    return str(instruction.mnemonic).rpartition(" ")[2] in _ENDS


def jump_target(instruction: capstone.CsInsn) -> int | None:
    """The target of a jump: UNKNOWN if it is in a register or memory, None if it is no jump."""
    import capstone

    if not instruction.group(capstone.CS_GRP_JUMP) or instruction.group(capstone.CS_GRP_CALL):
        return None
    target = str(instruction.op_str).rpartition(" ")[2].lstrip("#")
    return int(target, 16) if _ADDRESS.fullmatch(target) else UNKNOWN


def branch_targets(elf: Elf, function: Function) -> Iterator[int]:
    """The targets of the function's direct branches and calls, as virtual addresses."""
    code = elf.read(function.vaddr, min(function.size, _MAX_BODY))
    engine = disassembler(elf.machine, False)
    for _, _, mnemonic, operands in engine.disasm_lite(code, function.vaddr):
        target = operands.rpartition(" ")[2].lstrip("#")
        if _BRANCH.match(mnemonic) and _ADDRESS.fullmatch(target):
            yield int(target, 16)


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
