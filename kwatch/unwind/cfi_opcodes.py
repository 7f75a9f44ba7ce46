# SPDX-License-Identifier: Apache-2.0
"""Opcodes and operands of call frame instructions: DWARF 5, 6.4.2, with those of GNU and arm64."""

from __future__ import annotations

#: These two have their first operand in the low six bits of the opcode.
OFFSET, RESTORE = 0x80, 0xC0
PACKED_OPERAND = 0x3F

OFFSET_EXTENDED, RESTORE_EXTENDED, UNDEFINED, SAME_VALUE, REGISTER = range(0x05, 0x0A)
REMEMBER_STATE, RESTORE_STATE = 0x0A, 0x0B
DEF_CFA, DEF_CFA_REGISTER, DEF_CFA_OFFSET, DEF_CFA_EXPRESSION = range(0x0C, 0x10)
EXPRESSION, OFFSET_EXTENDED_SF, DEF_CFA_SF, DEF_CFA_OFFSET_SF = range(0x10, 0x14)
VAL_OFFSET, VAL_OFFSET_SF, VAL_EXPRESSION = range(0x14, 0x17)
GNU_NEGATIVE_OFFSET_EXTENDED = 0x2F
_NOP = 0x00
_AARCH64_NEGATE_RA_STATE, _AARCH64_NEGATE_RA_STATE_WITH_PC = 0x2C, 0x2D
_GNU_ARGS_SIZE = 0x2E

#: The operands that follow the opcode of each instruction that does not advance the address.
#: u: ULEB128, s: SLEB128, b: a block after its ULEB128 size.
OPERANDS = {
    **dict.fromkeys(range(OFFSET, OFFSET + PACKED_OPERAND + 1), "u"),
    **dict.fromkeys(range(RESTORE, RESTORE + PACKED_OPERAND + 1), ""),
    _NOP: "",
    OFFSET_EXTENDED: "uu",
    RESTORE_EXTENDED: "u",
    UNDEFINED: "u",
    SAME_VALUE: "u",
    REGISTER: "uu",
    REMEMBER_STATE: "",
    RESTORE_STATE: "",
    DEF_CFA: "uu",
    DEF_CFA_REGISTER: "u",
    DEF_CFA_OFFSET: "u",
    DEF_CFA_EXPRESSION: "b",
    EXPRESSION: "ub",
    OFFSET_EXTENDED_SF: "us",
    DEF_CFA_SF: "us",
    DEF_CFA_OFFSET_SF: "s",
    VAL_OFFSET: "uu",
    VAL_OFFSET_SF: "us",
    VAL_EXPRESSION: "ub",
    _AARCH64_NEGATE_RA_STATE: "",
    _AARCH64_NEGATE_RA_STATE_WITH_PC: "",
    _GNU_ARGS_SIZE: "u",
    GNU_NEGATIVE_OFFSET_EXTENDED: "uu",
}

#: DW_CFA_advance_loc has its operand in the low six bits, too.
ADVANCE_LOC = 0x40
#: Bytes of the operand of DW_CFA_advance_loc1, 2 and 4, and of DW_CFA_MIPS_advance_loc8.
WIDE_ADVANCES = {0x02: 1, 0x03: 2, 0x04: 4, 0x1D: 8}
