# SPDX-License-Identifier: Apache-2.0
"""Converts a state to the rule of a row, for x86-64 and arm64."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kwatch.unwind.cfa import State, Where
from kwatch.unwind.encoding import Malformed, read_sleb
from kwatch.wire.unwind_rows import FP_AT_FP, FP_SAME, Arm64Ra, RowKind, arm64_rule, x86_rule

EM_X86_64, EM_AARCH64 = 62, 183

_RBP, _RSP, _RIP = 6, 7, 16
_X29, _X30, _ARM64_SP = 29, 30, 31
_DW_OP_BREG0, _DW_OP_DEREF = 0x70, 0x06
# The linker's expression for .plt: sp + 8 + ((pc & 15) >= N) * 8, N a literal (0x30 is DW_OP_lit0)
_PLT = re.compile(rb"\x77\x08\x80\x00\x3f\x1a([\x30-\x3f])\x2a\x33\x24\x22", re.DOTALL)
# glibc's __restore_rt: the registers of the interrupted frame are in the struct ucontext at sp
_SIGNAL_CFA, _SIGNAL_RA = b"\x77\xa0\x01\x06", b"\x77\xa8\x01"


@dataclass(frozen=True, slots=True)
class Machine:
    """`fp` and `ra` are DWARF register numbers. `rule` converts states, `signal_rule` those of
    signal frames.

    `trampolines` are the instructions that return from a signal, for code that has no FDE for them:
    musl, and the arm64 vdso (arch/arm64/kernel/vdso/sigreturn.S says why).
    """

    number: int
    fp: int
    ra: int
    rule: Callable[[State], int | None]
    signal_rule: Callable[[State], int | None]
    trampolines: tuple[bytes, ...]


def _x86_rule(state: State) -> int | None:
    if state.ra is Where.UNDEFINED:
        return int(RowKind.END)
    fp = _x86_fp(state)
    # vfork() pops its return address into a register. The word is still below the stack pointer.
    is_popped = state.ra is Where.ELSEWHERE and state.cfa == (_RSP, 0)
    if (state.ra != -8 and not is_popped) or fp is None:
        return None
    match state.cfa:
        case (7, offset):
            return x86_rule(RowKind.SP, offset, fp)
        case (6, offset):
            return x86_rule(RowKind.FP, offset, fp)
        case bytes(expression):
            return _x86_expression(expression, fp)
    return None


def _x86_fp(state: State) -> int | None:
    if state.fp is Where.SAME:
        return FP_SAME
    if isinstance(state.fp, int) and state.fp < 0 and state.fp % 8 == 0:
        return state.fp // 8
    if isinstance(state.fp, bytes) and _register_plus(state.fp) == (_RBP, 0, b""):
        return FP_AT_FP
    return None


def _x86_expression(expression: bytes, fp: int) -> int | None:
    plt = _PLT.fullmatch(expression)
    if plt:
        return x86_rule(RowKind.PLT, plt[1][0] - 0x30) if fp == FP_SAME else None
    match _register_plus(expression):
        case (6, offset, rest) if rest == bytes([_DW_OP_DEREF]):
            return x86_rule(RowKind.DEREF, offset, fp)
    return None


def _register_plus(expression: bytes) -> tuple[int, int, bytes] | None:
    """(register, offset, rest) of an expression that begins with DW_OP_bregN."""
    if not expression or not _DW_OP_BREG0 <= expression[0] < _DW_OP_BREG0 + 32:
        return None
    try:
        offset, end = read_sleb(expression, 1)
    except Malformed:
        return None
    return expression[0] - _DW_OP_BREG0, offset, expression[end:]


def _x86_signal(state: State) -> int | None:
    is_known = state.cfa == _SIGNAL_CFA and state.ra == _SIGNAL_RA
    return int(RowKind.SIGNAL) if is_known else None


def _arm64_rule(state: State) -> int | None:
    if state.ra is Where.UNDEFINED:
        return int(RowKind.END)
    match state.cfa:
        case (register, offset) if register in (_X29, _ARM64_SP):
            saved = _arm64_saved(state)
            return arm64_rule(register == _X29, saved[0], offset, saved[1]) if saved else None
    return None


def _arm64_saved(state: State) -> tuple[Arm64Ra, int] | None:
    """Where x30 is, and how far below the CFA the saved registers begin."""
    match state.fp, state.ra:
        case Where.SAME, Where.SAME:
            return Arm64Ra.REG, 0
        case Where.SAME, int(ra):
            return Arm64Ra.ALONE, -ra
        case int(fp), Where.SAME:
            return Arm64Ra.REG_FP, -fp
        case int(fp), int(ra) if ra == fp + 8:
            return Arm64Ra.PAIR, -fp
    return None


def _arm64_signal(_: State) -> int | None:
    """Only the trampoline of the kernel is a signal frame. Its FDE describes frame records."""
    return int(RowKind.SIGNAL)


X86_64 = Machine(
    EM_X86_64,
    _RBP,
    _RIP,
    _x86_rule,
    _x86_signal,
    # mov $15, %rax (or %eax); syscall
    (b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05", b"\xb8\x0f\0\0\0\x0f\x05"),
)
# mov x8, #139; svc #0
ARM64 = Machine(
    EM_AARCH64, _X29, _X30, _arm64_rule, _arm64_signal, (b"\x68\x11\x80\xd2\x01\0\0\xd4",)
)
MACHINES = {machine.number: machine for machine in (X86_64, ARM64)}
