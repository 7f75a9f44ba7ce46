# SPDX-License-Identifier: Apache-2.0
"""Chooses the instruction of a function to probe.

The kernel emulates a few instructions under a uprobe and single-steps all others, which costs
several times as much. A probe may sit behind the entry as long as the instructions in between
are straight-line code that leaves the stack pointer alone, and the arguments are still in registers
there.

Emulated on x86-64: nop, jmp, jcc, call (linux arch/x86/kernel/uprobes.c branch_setup_xol_ops, 3.16)
and push (push_setup_xol_ops, commit e7ed9d9bd037, 4.18). Simulated on arm64: branches, adr, adrp,
ldr literal (arch/arm64/kernel/probes/decode-insn.c) and, since 6.13, nop (commit ac4ad5c09b34).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.elf.elf import Elf, Function
from kwatch.elf.machine_code import ARM_WHOLE, EM_AARCH64, X86_WHOLE, disassembler
from kwatch.kernel.emulation import emulates
from kwatch.probes.instructions import branch_targets

if TYPE_CHECKING:
    import capstone

_MAX_PROLOGUE = 64  # bytes in which a site is looked for
_ARM_SIMULATED = {"adr", "adrp", "b", "bl", "cbz", "cbnz", "tbz", "tbnz"}

#: The registers of arguments, and the registers in the order of struct pt_regs (bpf/arch.h).
_X86_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx")
_X86_WORDS = tuple("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi".split())
_ARM_ARGUMENTS = ("x0", "x1", "x2", "x3")
_ARM_WORDS = tuple(f"x{number}" for number in range(31))


@dataclass(frozen=True, slots=True)
class Site:
    """`offset`: in bytes from the function's entry. `moved`: the arguments that are in other
    registers there, each with the number of the register's word in struct pt_regs. `pushed`: by how
    many words the stack has grown since the entry."""

    offset: int
    moved: tuple[tuple[int, int], ...] = ()
    pushed: int = 0


_ENTRY = Site(0)


def find_site(elf: Elf, function: Function, arguments: Collection[int], may_move: bool) -> Site:
    """The place to probe; the entry when nothing better is safe.

    `arguments`: those that the probe reads, from 0. `may_move`: it can read other registers.
    """
    code = elf.read(function.vaddr, min(function.size or _MAX_PROLOGUE, _MAX_PROLOGUE))
    tracked = _Arguments(elf.machine, arguments)
    for instruction in disassembler(elf.machine, True).disasm(code, function.vaddr):
        if _is_emulated(elf.machine, instruction):
            offset = int(instruction.address) - function.vaddr
            is_safe = offset == 0 or not _is_entered_between(elf, function, offset)
            return Site(offset, tracked.moved()) if is_safe else _ENTRY
        if _ends_straight_line(instruction) or not tracked.survive(instruction):
            return _ENTRY
        if tracked.moved() and not may_move:
            return _ENTRY
        if str(instruction.mnemonic).startswith("paci"):
            return _ENTRY  # the return address is signed: a return probe could not replace it
    return _ENTRY


def find_second_site(elf: Elf, function: Function, arguments: Collection[int]) -> Site:
    """A place that is neither the entry nor what `find_site` returns; that one if there is none.

    Of two probes at one place, one in a process and a return probe in another, the kernel lets the
    return probe replace the return addresses of both processes: handler_chain() in
    kernel/events/uprobes.c prepares the return if any consumer has a return handler.
    """
    first = find_site(elf, function, arguments, True)
    code = elf.read(function.vaddr, min(function.size or _MAX_PROLOGUE, _MAX_PROLOGUE))
    tracked, found = _Arguments(elf.machine, arguments), first
    for instruction in disassembler(elf.machine, True).disasm(code, function.vaddr):
        offset = int(instruction.address) - function.vaddr
        if offset not in (0, first.offset):
            if _is_entered_between(elf, function, offset):
                break
            if _is_emulated(elf.machine, instruction):
                return Site(offset, tracked.moved(), tracked.pushed)
            if found == first:
                found = Site(offset, tracked.moved(), tracked.pushed)
        if _ends_straight_line(instruction) or not tracked.survive(instruction, may_push=True):
            break
    return found


class _Arguments:
    """Follows arguments from register to register through straight-line code."""

    def __init__(self, machine: int, arguments: Collection[int]) -> None:
        is_arm = machine == EM_AARCH64
        self._move = re.compile(r"mov\b" if is_arm else r"mov(abs)?$")
        self._words = _ARM_WORDS if is_arm else _X86_WORDS
        self._homes = _ARM_ARGUMENTS if is_arm else _X86_ARGUMENTS
        self._whole = ARM_WHOLE if is_arm else X86_WHOLE
        self._fixed = frozenset({"sp", "x30"} if is_arm else {"rsp"})
        self.pushed = 0
        #: The registers that hold each argument.
        self._holders = {argument: {self._homes[argument]} for argument in arguments}

    def survive(self, instruction: capstone.CsInsn, may_push: bool = False) -> bool:
        """Applies an instruction; False if an argument is lost or the stack pointer has changed.

        `may_push`: other than by a push, which `pushed` counts.
        """
        _, written_numbers = instruction.regs_access()
        names = [str(instruction.reg_name(number)) for number in written_numbers]
        written = {self._whole.get(name, name) for name in names}
        if may_push and str(instruction.mnemonic) == "push":
            self.pushed += 1
        elif written & self._fixed:
            return False
        source, target = self._copied(instruction)
        for holders in self._holders.values():
            is_copied = source in holders
            holders -= written
            if is_copied:
                holders.add(target)
        return all(self._holders.values())

    def _copied(self, instruction: capstone.CsInsn) -> tuple[str, str]:
        """The registers of a move of a whole register, or two empty names."""
        target, _, source = str(instruction.op_str).partition(", ")
        is_move = self._move.fullmatch(str(instruction.mnemonic))
        is_whole = source in self._words and target in self._words
        return (source, target) if is_move and is_whole else ("", "")

    def moved(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (argument, self._words.index(min(holders)))
            for argument, holders in sorted(self._holders.items())
            if self._homes[argument] not in holders
        )


def _is_emulated(machine: int, instruction: capstone.CsInsn) -> bool:
    name = str(instruction.mnemonic)
    if machine == EM_AARCH64:
        if name == "nop":  # since Linux 6.13, commit ac4ad5c09b34
            return emulates("nop")
        return name in _ARM_SIMULATED or name.startswith("b.")
    code = bytes(instruction.bytes)
    if code == b"\x90" or code[0] in (0xE8, 0xE9, 0xEB) or 0x70 <= code[0] <= 0x7F:
        return True
    if code[0] == 0x0F and 0x80 <= code[1] <= 0x8F:
        return True
    return 0x50 <= code[0] <= 0x57 or (code[0] == 0x41 and 0x50 <= code[1] <= 0x57)


def _ends_straight_line(instruction: capstone.CsInsn) -> bool:
    import capstone

    groups = (capstone.CS_GRP_JUMP, capstone.CS_GRP_CALL, capstone.CS_GRP_RET, capstone.CS_GRP_INT)
    return any(instruction.group(group) for group in groups)


def _is_entered_between(elf: Elf, function: Function, offset: int) -> bool:
    """Whether the function jumps back behind its entry: one call could hit the probe twice."""
    inside = range(function.vaddr + 1, function.vaddr + offset + 1)
    return any(target in inside for target in branch_targets(elf, function))
