# SPDX-License-Identifier: Apache-2.0
"""Executes call frame instructions: where the registers of the caller are. See DWARF 5, 6.4.

Keeps only what a row can express: the CFA, the frame pointer and the return address. A `State`
contains no addresses, so the functions of a file share a few hundred states.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from kwatch.unwind import cfi_opcodes as op
from kwatch.unwind.encoding import Malformed, read_sleb, read_uint, read_uleb

_MAX_STATES = 1 << 16


class Where(enum.Enum):
    """Where a register of the caller is, if it was not saved in memory."""

    SAME = enum.auto()
    UNDEFINED = enum.auto()
    ELSEWHERE = enum.auto()  # in another register, or computed


#: int: saved at CFA + this; bytes: saved at the address that this expression computes
RegisterRule = int | bytes | Where
#: (register, offset), or an expression that computes the CFA
Cfa = tuple[int, int] | bytes | None


@dataclass(frozen=True, slots=True)
class State:
    """The rules at one instruction. `remembered`: the number of the state on the stack, or -1."""

    cfa: Cfa = None
    fp: RegisterRule = Where.SAME
    ra: RegisterRule = Where.SAME
    remembered: int = -1


@dataclass(frozen=True, slots=True)
class Columns:
    """What the operands mean; DW_CFA_restore goes back to the rules of `initial`."""

    fp: int
    ra: int
    data_align: int
    initial: State


class States:
    """Numbers states, so that each is converted once however many functions share it."""

    def __init__(self) -> None:
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []

    def number(self, state: State) -> int:
        known = self._numbers.get(state)
        if known is None:
            if len(self._states) >= _MAX_STATES:
                raise Malformed("too many states")
            known = self._numbers[state] = len(self._states)
            self._states.append(state)
        return known

    def __getitem__(self, number: int) -> State:
        return self._states[number]

    def run(self, number: int, instructions: bytes, columns: Columns) -> int:
        """The number of the state after instructions that do not advance. Raises Malformed."""
        state, at = self._states[number], 0
        while at < len(instructions):
            opcode = instructions[at]
            if opcode not in op.OPERANDS:
                raise Malformed(f"unknown instruction {opcode:#x}")
            operands, at = _read_operands(instructions, at + 1, op.OPERANDS[opcode])
            if opcode == op.REMEMBER_STATE:
                state = replace(state, remembered=self.number(state))
            elif opcode == op.RESTORE_STATE:
                state = self._restored(state)
            else:
                state = _applied(state, opcode, operands, columns)
        return self.number(state)

    def _restored(self, state: State) -> State:
        if state.remembered < 0:
            raise Malformed("DW_CFA_restore_state without DW_CFA_remember_state")
        return self._states[state.remembered]


_CFA_RULES = {
    op.DEF_CFA,
    op.DEF_CFA_REGISTER,
    op.DEF_CFA_OFFSET,
    op.DEF_CFA_EXPRESSION,
    op.DEF_CFA_SF,
    op.DEF_CFA_OFFSET_SF,
}
_FACTORED = {op.OFFSET_EXTENDED, op.OFFSET_EXTENDED_SF, op.GNU_NEGATIVE_OFFSET_EXTENDED}
_ELSEWHERE = {op.REGISTER, op.VAL_OFFSET, op.VAL_OFFSET_SF, op.VAL_EXPRESSION}

_Operands = list[int | bytes]


def _read_operands(data: bytes, at: int, kinds: str) -> tuple[_Operands, int]:
    operands: _Operands = []
    for kind in kinds:
        if kind == "s":
            value, at = read_sleb(data, at)
            operands.append(value)
            continue
        value, at = read_uleb(data, at)
        if kind == "b":
            read_uint(data, at, value)  # raises Malformed if the data ends inside the block
            operands.append(data[at : at + value])
            at += value
        else:
            operands.append(value)
    return operands, at


def _applied(state: State, opcode: int, operands: _Operands, columns: Columns) -> State:
    if opcode in _CFA_RULES:
        return replace(state, cfa=_new_cfa(state.cfa, opcode, operands, columns.data_align))
    if opcode >= op.OFFSET:
        operands = [opcode & op.PACKED_OPERAND, *operands]
        opcode = op.RESTORE_EXTENDED if opcode >= op.RESTORE else op.OFFSET_EXTENDED
    match operands:
        case [int(register), int(factor)] if opcode in _FACTORED:
            sign = -1 if opcode == op.GNU_NEGATIVE_OFFSET_EXTENDED else 1
            return _with_rule(state, register, sign * factor * columns.data_align, columns)
        case [int(register), *_] if opcode in _ELSEWHERE:
            return _with_rule(state, register, Where.ELSEWHERE, columns)
        case [int(register), bytes(expression)]:
            return _with_rule(state, register, expression, columns)
        case [int(register)] if opcode == op.RESTORE_EXTENDED:
            return _with_initial(state, register, columns)
        case [int(register)] if opcode == op.UNDEFINED:
            return _with_rule(state, register, Where.UNDEFINED, columns)
        case [int(register)] if opcode == op.SAME_VALUE:
            return _with_rule(state, register, Where.SAME, columns)
    return state


def _new_cfa(old: Cfa, opcode: int, operands: _Operands, data_align: int) -> Cfa:
    match operands:
        case [bytes(expression)]:
            return expression
        case [int(register), int(offset)]:
            return register, offset * (data_align if opcode == op.DEF_CFA_SF else 1)
    value = operands[0]
    if not isinstance(old, tuple) or isinstance(value, bytes):
        raise Malformed("a change of the CFA's register or offset, but there is no CFA")
    if opcode == op.DEF_CFA_REGISTER:
        return value, old[1]
    return old[0], value * (data_align if opcode == op.DEF_CFA_OFFSET_SF else 1)


def _with_initial(state: State, register: int, columns: Columns) -> State:
    rule = columns.initial.fp if register == columns.fp else columns.initial.ra
    return _with_rule(state, register, rule, columns)


def _with_rule(state: State, register: int, rule: RegisterRule, columns: Columns) -> State:
    if register == columns.fp:
        return replace(state, fp=rule)
    if register == columns.ra:
        return replace(state, ra=rule)
    return state
