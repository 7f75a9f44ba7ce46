# SPDX-License-Identifier: Apache-2.0
"""What the registers of a caller are, as the instructions of `.eh_frame` say it: DWARF 5, 6.4.

Only what a row can need is kept: the CFA, and where the frame pointer and the return address are.
A `State` has no addresses, so the few hundred of a file are shared by all its functions.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from kwatch.unwind.encoding import Malformed, read_sleb, read_uint, read_uleb

_MAX_STATES = 1 << 16


class Where(enum.Enum):
    """Where a caller's register is, if not at an offset from the CFA."""

    SAME = enum.auto()
    UNDEFINED = enum.auto()
    ELSEWHERE = enum.auto()  # in another register, or a value that is computed


#: int: at CFA + this; bytes: at the address that this expression gives
Place = int | bytes | Where
#: (register, offset), or an expression that gives the CFA itself
Cfa = tuple[int, int] | bytes | None


@dataclass(frozen=True, slots=True)
class State:
    """The rules that hold at one instruction. `remembered` numbers the state that is saved."""

    cfa: Cfa = None
    fp: Place = Where.SAME
    ra: Place = Where.SAME
    remembered: int = -1


@dataclass(frozen=True, slots=True)
class Columns:
    """What numbers in instructions mean; `initial` is what DW_CFA_restore goes back to."""

    fp: int
    ra: int
    data_align: int
    initial: State


class States:
    """Numbers states, so that each is examined once however many functions share it."""

    def __init__(self) -> None:
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []

    def number(self, state: State) -> int:
        known = self._numbers.get(state)
        if known is None:
            if len(self._states) >= _MAX_STATES:
                raise Malformed("more states than any compiler makes")
            known = self._numbers[state] = len(self._states)
            self._states.append(state)
        return known

    def __getitem__(self, number: int) -> State:
        return self._states[number]

    def run(self, number: int, instructions: bytes, columns: Columns) -> int:
        """The state after instructions that do not advance; raises Malformed."""
        state, at = self._states[number], 0
        while at < len(instructions):
            opcode = instructions[at]
            at += 1
            if opcode == _REMEMBER:
                state = replace(state, remembered=self.number(state))
            elif opcode == _RESTORE_STATE:
                state = self._restored(state)
            elif opcode >= _OFFSET:
                state, at = _packed(state, opcode, instructions, at, columns)
            elif opcode in _OPERANDS:
                operands, at = _read_operands(instructions, at, _OPERANDS[opcode])
                state = _applied(state, opcode, operands, columns)
            else:
                raise Malformed(f"the instruction {opcode:#x}")
        return self.number(state)

    def _restored(self, state: State) -> State:
        if state.remembered < 0:
            raise Malformed("a state is restored that was not remembered")
        return self._states[state.remembered]


_OFFSET, _RESTORE = 0x80, 0xC0
_REMEMBER, _RESTORE_STATE = 0x0A, 0x0B
_OFFSET_EXTENDED, _RESTORE_EXTENDED, _UNDEFINED, _SAME_VALUE, _REGISTER = range(0x05, 0x0A)
_DEF_CFA, _DEF_CFA_REGISTER, _DEF_CFA_OFFSET, _DEF_CFA_EXPRESSION = range(0x0C, 0x10)
_EXPRESSION, _OFFSET_EXTENDED_SF, _DEF_CFA_SF, _DEF_CFA_OFFSET_SF = range(0x10, 0x14)
_VAL_OFFSET, _VAL_OFFSET_SF, _VAL_EXPRESSION = range(0x14, 0x17)
_NEGATIVE_OFFSET_EXTENDED = 0x2F

#: u: ULEB128, s: SLEB128, b: a block with its ULEB128 size. 0x2c and 0x2d are arm64's
#: DW_CFA_AARCH64_negate_ra_state(_with_pc), 0x2e DW_CFA_GNU_args_size.
_OPERANDS = {
    0x00: "",
    _OFFSET_EXTENDED: "uu",
    _RESTORE_EXTENDED: "u",
    _UNDEFINED: "u",
    _SAME_VALUE: "u",
    _REGISTER: "uu",
    _DEF_CFA: "uu",
    _DEF_CFA_REGISTER: "u",
    _DEF_CFA_OFFSET: "u",
    _DEF_CFA_EXPRESSION: "b",
    _EXPRESSION: "ub",
    _OFFSET_EXTENDED_SF: "us",
    _DEF_CFA_SF: "us",
    _DEF_CFA_OFFSET_SF: "s",
    _VAL_OFFSET: "uu",
    _VAL_OFFSET_SF: "us",
    _VAL_EXPRESSION: "ub",
    0x2C: "",
    0x2D: "",
    0x2E: "u",
    _NEGATIVE_OFFSET_EXTENDED: "uu",
}
_IN_UNITS = {_OFFSET_EXTENDED, _OFFSET_EXTENDED_SF, _NEGATIVE_OFFSET_EXTENDED}
_ELSEWHERE = {_REGISTER, _VAL_OFFSET, _VAL_OFFSET_SF, _VAL_EXPRESSION}

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
            read_uint(data, at, value)  # raises where the block does not end in the data
            operands.append(data[at : at + value])
            at += value
        else:
            operands.append(value)
    return operands, at


def _packed(state: State, opcode: int, data: bytes, at: int, columns: Columns) -> tuple[State, int]:
    """DW_CFA_offset and DW_CFA_restore, whose register is in the opcode."""
    register = opcode & 0x3F
    if opcode >= _RESTORE:
        return _with_initial(state, register, columns), at
    factor, at = read_uleb(data, at)
    return _with_place(state, register, factor * columns.data_align, columns), at


def _applied(state: State, opcode: int, operands: _Operands, columns: Columns) -> State:
    if _DEF_CFA <= opcode <= _DEF_CFA_EXPRESSION or opcode in (_DEF_CFA_SF, _DEF_CFA_OFFSET_SF):
        return replace(state, cfa=_new_cfa(state.cfa, opcode, operands, columns.data_align))
    match operands:
        case [int(register), int(factor)] if opcode in _IN_UNITS:
            sign = -1 if opcode == _NEGATIVE_OFFSET_EXTENDED else 1
            return _with_place(state, register, sign * factor * columns.data_align, columns)
        case [int(register), *_] if opcode in _ELSEWHERE:
            return _with_place(state, register, Where.ELSEWHERE, columns)
        case [int(register), bytes(expression)]:
            return _with_place(state, register, expression, columns)
        case [int(register)] if opcode == _RESTORE_EXTENDED:
            return _with_initial(state, register, columns)
        case [int(register)] if opcode == _UNDEFINED:
            return _with_place(state, register, Where.UNDEFINED, columns)
        case [int(register)] if opcode == _SAME_VALUE:
            return _with_place(state, register, Where.SAME, columns)
    return state


def _new_cfa(old: Cfa, opcode: int, operands: _Operands, data_align: int) -> Cfa:
    match operands:
        case [bytes(expression)]:
            return expression
        case [int(register), int(offset)]:
            return register, offset * (data_align if opcode == _DEF_CFA_SF else 1)
    value = operands[0]
    if not isinstance(old, tuple) or isinstance(value, bytes):
        raise Malformed("half of a CFA is changed where there is none")
    if opcode == _DEF_CFA_REGISTER:
        return value, old[1]
    return old[0], value * (data_align if opcode == _DEF_CFA_OFFSET_SF else 1)


def _with_initial(state: State, register: int, columns: Columns) -> State:
    place = columns.initial.fp if register == columns.fp else columns.initial.ra
    return _with_place(state, register, place, columns)


def _with_place(state: State, register: int, place: Place, columns: Columns) -> State:
    if register == columns.fp:
        return replace(state, fp=place)
    if register == columns.ra:
        return replace(state, ra=place)
    return state
