# SPDX-License-Identifier: Apache-2.0
"""Chooses the instruction of a function to probe.

The kernel emulates a few instructions under a uprobe and single-steps all others, which costs
several times as much. A probe may sit behind the entry as long as the instructions in between
are straight-line code that leaves the arguments and the stack pointer alone.

Emulated on x86-64: nop, jmp, jcc, call (linux arch/x86/kernel/uprobes.c branch_setup_xol_ops, 3.16)
and push (push_setup_xol_ops, commit e7ed9d9bd037, 4.18). Simulated on arm64: branches, adr, adrp,
ldr literal (arch/arm64/kernel/probes/decode-insn.c) and, since 6.13, nop (commit ac4ad5c09b34).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from kwatch.elf.elf import Elf, Function
from kwatch.kernel.emulation import emulates

if TYPE_CHECKING:
    import capstone

_MAX_PROLOGUE = 64  # bytes in which a site is looked for
_MAX_BODY = 1 << 14  # bytes in which branches back are looked for
_MAX_INSTRUCTIONS = 20_000  # followed in search of a function's returns
_UNKNOWN = -1
_EM_AARCH64 = 183

_X86_ARGUMENTS = ("rdi", "rsi", "rdx")
_X86_PARTS = {
    "rdi": {"rdi", "edi", "di", "dil"},
    "rsi": {"rsi", "esi", "si", "sil"},
    "rdx": {"rdx", "edx", "dx", "dl", "dh"},
    "rsp": {"rsp", "esp", "sp", "spl"},
}
_BRANCH = re.compile(r"j|call|b$|bl$|b\.|cb|tb")
_PLT_JUMP = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xf2?\xff\x25(....)", re.DOTALL)
_BTI_C = b"\x5f\x24\x03\xd5"
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_ARM_SIMULATED = {"adr", "adrp", "b", "bl", "cbz", "cbnz", "tbz", "tbnz"}


@cache
def _disassembler(machine: int, detail: bool) -> Any:
    import capstone

    if machine == _EM_AARCH64:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    else:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = detail
    return engine


def site_offset(elf: Elf, function: Function, argument_registers: int) -> int:
    """Offset from the function's entry of the place to probe; 0 when nothing better is safe."""
    code = elf.read(function.vaddr, min(function.size or _MAX_PROLOGUE, _MAX_PROLOGUE))
    protected = _protected_registers(elf.machine, argument_registers)
    engine = _disassembler(elf.machine, True)
    for instruction in engine.disasm(code, function.vaddr):
        if _is_emulated(elf.machine, instruction):
            offset = int(instruction.address) - function.vaddr
            return offset if offset == 0 or not _is_entered_between(elf, function, offset) else 0
        if _ends_straight_line(instruction) or _writes(instruction, protected):
            return 0
        if str(instruction.mnemonic).startswith("paci"):
            return 0  # the return address is signed: a return probe can no longer replace it
    return 0


def _protected_registers(machine: int, arguments: int) -> frozenset[str]:
    if machine == _EM_AARCH64:
        names = {f"{kind}{i}" for kind in "xw" for i in range(arguments)}
        return frozenset(names | {"sp", "wsp", "x30", "lr"})
    parts = [_X86_PARTS[name] for name in (*_X86_ARGUMENTS[:arguments], "rsp")]
    return frozenset().union(*parts)


def _is_emulated(machine: int, instruction: capstone.CsInsn) -> bool:
    name = str(instruction.mnemonic)
    if machine == _EM_AARCH64:
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


def _writes(instruction: capstone.CsInsn, registers: frozenset[str]) -> bool:
    _, written = instruction.regs_access()
    return any(instruction.reg_name(register) in registers for register in written)


def _branch_targets(elf: Elf, function: Function) -> Iterator[int]:
    """The targets of the function's direct branches and calls, as virtual addresses."""
    code = elf.read(function.vaddr, min(function.size, _MAX_BODY))
    engine = _disassembler(elf.machine, False)
    for _, _, mnemonic, operands in engine.disasm_lite(code, function.vaddr):
        target = operands.rpartition(" ")[2].lstrip("#")
        if _BRANCH.match(mnemonic) and _ADDRESS.fullmatch(target):
            yield int(target, 16)


def _through_slot(elf: Elf, address: int, slots: dict[int, int]) -> int:
    """The final target of a branch to an entry of the procedure linkage table."""
    if elf.offset_of(address) is None:
        return address
    code = elf.read(address, 20)
    slot = _arm_slot(code, address) if elf.machine == _EM_AARCH64 else _x86_slot(code, address)
    return address if slot is None else slots.get(slot, address)


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


def _is_entered_between(elf: Elf, function: Function, offset: int) -> bool:
    """Whether the function jumps back behind its entry: one call could hit the probe twice."""
    inside = range(function.vaddr + 1, function.vaddr + offset + 1)
    return any(target in inside for target in _branch_targets(elf, function))


def forwards_to(elf: Elf, function: Function, others: Sequence[int]) -> bool:
    """Whether the function is nothing but a jump to one of these virtual addresses."""
    first = next(_straight_line(elf, function.vaddr), None)
    target = _jump_target(first) if first is not None and _is_unconditional(first) else None
    return target is not None and _through_slot(elf, target, elf.slot_targets()) in others


def exit_offsets(elf: Elf, function: Function) -> tuple[int, ...] | None:
    """File offsets of the function's return instructions; None if not all are known.

    Jumps are followed, so the returns of a function that ends in a tail call are found in the
    other one.
    """
    exits: set[int] = set()
    seen: set[int] = set()
    pending = [function.vaddr]
    slots = elf.slot_targets()
    while pending:
        for instruction in _straight_line(elf, _through_slot(elf, pending.pop(), slots)):
            if instruction.address in seen:
                break
            seen.add(instruction.address)
            if _is_return(instruction):
                exits.add(instruction.address)
                break
            target = _jump_target(instruction)
            if target == _UNKNOWN or len(seen) > _MAX_INSTRUCTIONS:
                return None
            if target is not None:
                pending.append(target)
            if _is_unconditional(instruction):
                break
    return tuple(filter(None, map(elf.offset_of, sorted(exits)))) or None


def _straight_line(elf: Elf, address: int) -> Iterator[capstone.CsInsn]:
    """The instructions from an address on, as far as the file has code."""
    engine = _disassembler(elf.machine, True)
    while True:
        code = elf.read(address, _MAX_PROLOGUE)
        before = address
        for instruction in engine.disasm(code, address):
            yield instruction
            address += instruction.size
        if address == before:
            return


def _is_return(instruction: capstone.CsInsn) -> bool:
    import capstone

    return bool(instruction.group(capstone.CS_GRP_RET))


def _is_unconditional(instruction: capstone.CsInsn) -> bool:
    return str(instruction.mnemonic).removeprefix("bnd ") in ("jmp", "b", "ud2", "hlt", "br")


def _jump_target(instruction: capstone.CsInsn) -> int | None:
    """The target of a jump: _UNKNOWN if it is in a register or memory, None if it is no jump."""
    import capstone

    if not instruction.group(capstone.CS_GRP_JUMP) or instruction.group(capstone.CS_GRP_CALL):
        return None
    target = str(instruction.op_str).rpartition(" ")[2].lstrip("#")
    return int(target, 16) if _ADDRESS.fullmatch(target) else _UNKNOWN
