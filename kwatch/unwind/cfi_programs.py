# SPDX-License-Identifier: Apache-2.0
"""Executes the instructions of FDEs, each distinct sequence once.

A program is split at the instructions that advance the address. Between two of these only the
state changes, and distinct (state, instructions) pairs are few: one look-up makes one row.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from kwatch.unwind import cfi_opcodes as op
from kwatch.unwind.cfa import Columns, State, States
from kwatch.unwind.eh_frame import Cie
from kwatch.unwind.encoding import Malformed
from kwatch.unwind.machines import Machine
from kwatch.wire.unwind_rows import RowKind

Ints = npt.NDArray[np.int64]

#: Bytes. A function with a longer program is not supported; compilers make none.
_MAX_PROGRAM = 1 << 18
_MAX_FUNCTION = 1 << 31
#: Pairs kept at a time. Files have hundreds, but a malicious one may have any number.
_MAX_STEPS = 1 << 16
MAX_ROWS = 1 << 23

_LEB = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
# A regular expression cannot use the size in front of a block: each size is an alternative.
_BLOCK = b"(?:%s)" % b"|".join(b"\\x%02x.{%d}" % (size, size) for size in range(128))
_OPERAND_PATTERNS = {"u": _LEB, "s": _LEB, "b": _BLOCK}


def _stays_pattern() -> bytes:
    """One instruction that does not advance the address."""
    opcodes: dict[bytes, bytes] = {}
    for opcode, kinds in op.OPERANDS.items():
        operands = b"".join(_OPERAND_PATTERNS[kind] for kind in kinds)
        opcodes[operands] = opcodes.get(operands, b"") + b"\\x%02x" % opcode
    return b"|".join(b"[%s]%s" % (some, operands) for operands, some in opcodes.items())


def _advances_pattern() -> bytes:
    wide = (b"|\\x%02x.{%d}" % wide for wide in op.WIDE_ADVANCES.items())
    return b"[\\x%02x-\\x%02x]" % (op.ADVANCE_LOC, op.OFFSET - 1) + b"".join(wide)


#: The quantifier is possessive (no backtracking). The last match is what cannot be read.
_STEP = re.compile(b"((?:%s)*+)(%s|.*)" % (_stays_pattern(), _advances_pattern()), re.DOTALL)
_PACKED_DELTAS = {bytes([op.ADVANCE_LOC | delta]): delta for delta in range(op.PACKED_OPERAND + 1)}


class CfiPrograms:
    """The rows of every distinct function, relative to its start.

    `add` returns the program's number; `rows` returns (first, count) by program and (offset, rule)
    by row. A program that cannot be understood has one row, `UNSUP`.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._states = States()
        self._runners: dict[Cie, _Runner | None] = {}
        self._known: dict[tuple[Cie, bytes], int] = {}
        self._first: list[int] = []
        self._offsets: list[int] = []
        self._rules: list[int] = []

    def add(self, cie: Cie, instructions: bytes) -> int:
        key = cie, instructions
        known = self._known.get(key)
        if known is None:
            offsets, rules = self._run(cie, instructions)
            known = self._known[key] = self.add_rows(offsets, rules)
        return known

    def add_rows(self, offsets: list[int], rules: list[int]) -> int:
        """Adds a program by its rows."""
        if len(self._rules) + len(rules) > MAX_ROWS:
            raise Malformed(f"more than {MAX_ROWS} rows")
        self._first.append(len(self._rules))
        self._offsets += offsets
        self._rules += rules
        return len(self._first) - 1

    def rows(self) -> tuple[Ints, Ints, Ints, Ints]:
        first = np.array(self._first, dtype=np.int64)
        counts = np.diff(first, append=len(self._rules))
        return first, counts, np.array(self._offsets, np.int64), np.array(self._rules, np.int64)

    def _run(self, cie: Cie, instructions: bytes) -> tuple[list[int], list[int]]:
        if cie not in self._runners:
            try:
                self._runners[cie] = _Runner(cie, self._machine, self._states)
            except Malformed:
                self._runners[cie] = None
        runner = self._runners[cie]
        return runner.run(instructions) if runner else ([0], [int(RowKind.UNSUP)])


class _Runner:
    """Executes the programs of one CIE."""

    def __init__(self, cie: Cie, machine: Machine, states: States) -> None:
        self._states = states
        self._align = cie.code_align
        self._rule = machine.signal_rule if cie.is_signal else machine.rule
        self._columns = Columns(machine.fp, machine.ra, cie.data_align, State())
        self._rules: dict[int, int] = {}
        self._next: dict[tuple[int, bytes], int] = {}
        # DWARF: the rule of a register is "same value" unless the CIE sets another.
        self._first = states.run(states.number(State()), cie.instructions, self._columns)
        self._columns = Columns(machine.fp, machine.ra, cie.data_align, states[self._first])
        if cie.return_register != machine.ra:
            raise Malformed(f"return address in column {cie.return_register}")

    def run(self, instructions: bytes) -> tuple[list[int], list[int]]:
        """The offset from the function's start and the rule of each row; the first offset is 0.

        An instruction that cannot be read makes the rest of the function unsupported.
        """
        if len(instructions) > _MAX_PROGRAM:
            return [0], [int(RowKind.UNSUP)]
        offsets, rules = [0], [0]
        state, offset, align = self._first, 0, self._align
        try:
            for stays, advances in _STEP.findall(instructions):
                if stays:
                    following = self._next.get((state, stays))
                    state = self._step(state, stays) if following is None else following
                rules[-1] = self._rules[state] if state in self._rules else self._rule_of(state)
                if not advances:
                    break
                delta = _PACKED_DELTAS.get(advances)
                if delta is None:
                    delta = _wide_delta(advances)
                if delta:
                    offset += delta * align
                    if offset > _MAX_FUNCTION:
                        break
                    offsets.append(offset)
                    rules.append(rules[-1])
        except Malformed:
            rules[-1] = int(RowKind.UNSUP)
        return offsets, rules

    def _step(self, state: int, instructions: bytes) -> int:
        following = self._states.run(state, instructions, self._columns)
        if len(self._next) >= _MAX_STEPS:
            self._next.clear()
        self._next[state, instructions] = following
        return following

    def _rule_of(self, number: int) -> int:
        rule = self._rule(self._states[number])
        self._rules[number] = int(RowKind.UNSUP) if rule is None else rule
        return self._rules[number]


def _wide_delta(advances: bytes) -> int:
    if op.WIDE_ADVANCES.get(advances[0]) != len(advances) - 1:
        raise Malformed(f"unknown instruction {advances[0]:#x}")
    return int.from_bytes(advances[1:], "little")
