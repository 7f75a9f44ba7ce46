# SPDX-License-Identifier: Apache-2.0
"""Decodes the machine code of functions: straight lines of instructions, and where jumps lead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kwatch.elf.elf import Elf, Function
from kwatch.elf.machine_code import disassembler

if TYPE_CHECKING:
    import capstone

#: The target of a jump that depends on a register or on memory.
UNKNOWN = -1

_CHUNK = 64  # bytes that are decoded at a time
_MAX_BODY = 1 << 14  # bytes in which branches back are looked for
_BRANCH = re.compile(r"j|call|b$|bl$|b\.|cb|tb")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
#: Nothing runs behind these. Compilers fill the space between functions with int3 or udf.
_ENDS = frozenset("jmp b br braa brab braaz brabz ud0 ud1 ud2 hlt int3 udf brk".split())


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
