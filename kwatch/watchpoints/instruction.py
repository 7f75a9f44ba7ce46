# SPDX-License-Identifier: Apache-2.0
"""Finds the instruction that a watchpoint reported.

On x86-64 the processor reports a data access after the instruction, so the instruction pointer is
that of the next one. Code cannot be decoded backwards (9 of 10 stores of nginx would be ambiguous):
it is decoded forwards from the beginning of the function.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kwatch.elf.elf import Elf, ElfError
from kwatch.elf.function_starts import function_starts
from kwatch.elf.machine_code import EM_AARCH64, disassembler
from kwatch.model.hit_place import Doubt, Instruction
from kwatch.procfs.address_space import ReturnAddress
from kwatch.procfs.mappings import Mapping
from kwatch.symbols.mapped_files import MappedFiles

if TYPE_CHECKING:
    import capstone

_MAX_FUNCTION = 1 << 20  # bytes
_REP = (b"\xf2", b"\xf3")
#: The string instructions, without the letter of their size.
_STRINGS = frozenset("movs stos lods ins outs cmps scas".split())

Found = Instruction | Doubt


class InstructionFinder:
    """Keeps the files of one process open."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._files = MappedFiles()
        self._opened: dict[tuple[int, int, str], _Code | None] = {}

    def before(
        self, mapping: Mapping, ip: int, pushed: bool, caller: ReturnAddress | None
    ) -> Found:
        """The instruction after which the processor reported a data access at `ip`.

        `pushed`: the memory is at the stack pointer, where a call puts its return address, which is
        then `caller`.
        """
        found = self._looked_up(mapping, ip, lambda code, at, to: code.before(at, to, pushed))
        if found is not Doubt.CALLED:
            return found
        if caller is None:
            return Doubt.JUMPED
        return self._looked_up(caller.mapping, caller.address, _Code.call_before)

    def at(self, mapping: Mapping, ip: int) -> Found:
        """The instruction at `ip`."""
        return self._looked_up(mapping, ip, _Code.at)

    def _looked_up(
        self, mapping: Mapping, address: int, look: Callable[[_Code, int, int], Found]
    ) -> Found:
        """What `look` finds in the file, at the offset of the address and with what leads back."""
        code = self._code(mapping)
        if code is None:
            return Doubt.NO_CODE
        at = address - mapping.start + mapping.offset
        try:
            return look(code, at, address - at)
        except ElfError:
            return Doubt.NO_CODE

    def close(self) -> None:
        for code in self._opened.values():
            if code is not None:
                code.close()
        self._opened.clear()

    def _code(self, mapping: Mapping) -> _Code | None:
        key = mapping.device, mapping.inode, mapping.path
        if key not in self._opened:
            self._opened[key] = self._read(mapping)
        return self._opened[key]

    def _read(self, mapping: Mapping) -> _Code | None:
        try:
            elf = self._files.open(self._pid, mapping)
            return _Code(elf) if elf is not None else None
        except ElfError:
            return None


class _Code:
    """The code of a file. `at` is an offset in the file; `shift` leads from it to the memory."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._starts = function_starts(elf)
        self._begins = frozenset(self._starts)
        self._is_arm = elf.machine == EM_AARCH64

    def close(self) -> None:
        self._elf.close()

    def at(self, at: int, shift: int) -> Found:
        vaddr = self._vaddr(at)
        found = next(iter(self._decoded(vaddr, vaddr + 1)), None)
        return Doubt.NO_CODE if found is None else self._shown(found, at - vaddr + shift)

    def before(self, at: int, shift: int, pushed: bool) -> Found:
        """Doubt.CALLED if a call led to `at`."""
        if self._is_arm:
            return self.at(at, shift)
        vaddr = self._vaddr(at)
        here = next(iter(self._decoded(vaddr, vaddr + 1)), None)
        before = self._ending_at(vaddr)
        is_next = before is not None and _has_memory(before) and vaddr not in self._begins
        if pushed and not is_next:
            return Doubt.CALLED
        repeats = here is not None and _repeats(here)
        if repeats and (before is None or not _has_memory(before)):
            return self._shown(here, at - vaddr + shift)
        if repeats:
            return Doubt.TWO
        if before is None:
            return Doubt.NO_CODE
        return self._shown(before, at - vaddr + shift) if _has_memory(before) else Doubt.JUMPED

    def call_before(self, at: int, shift: int) -> Found:
        """The call instruction that the return address follows."""
        vaddr = self._vaddr(at)
        found = self._ending_at(vaddr)
        if found is None or not str(found.mnemonic).endswith("call"):
            return Doubt.JUMPED
        return self._shown(found, at - vaddr + shift)

    def _ending_at(self, vaddr: int) -> capstone.CsInsn | None:
        """The instruction that ends at an address, decoded from where its function begins."""
        index = bisect_right(self._starts, vaddr - 1)
        if not index or vaddr - self._starts[index - 1] > _MAX_FUNCTION:
            return None
        last = next(iter(deque(self._decoded(self._starts[index - 1], vaddr), maxlen=1)), None)
        return last if last is not None and last.address + last.size == vaddr else None

    def _decoded(self, start: int, end: int) -> Iterator[capstone.CsInsn]:
        """The instructions from `start` up to the one that reaches `end`."""
        code = self._elf.read(start, end - start + 16)  # an instruction has at most 15 bytes
        for instruction in disassembler(self._elf.machine, True).disasm(code, start):
            if instruction.address >= end:
                return
            yield instruction

    def _vaddr(self, at: int) -> int:
        """Raises ElfError."""
        vaddr = self._elf.vaddr_of(at)
        if vaddr is None:
            raise ElfError(self._elf.path, f"no code at offset {at:#x}")
        return vaddr

    def _shown(self, found: capstone.CsInsn, shift: int) -> Instruction:
        text = f"{found.mnemonic} {found.op_str}".strip()
        return Instruction(found.address + shift, text)


def _repeats(instruction: capstone.CsInsn) -> bool:
    """Whether the processor reports it with its own address, once for each repetition."""
    has_prefix = any(prefix in bytes(instruction.bytes[:3]) for prefix in _REP)
    name = str(instruction.mnemonic).rpartition(" ")[2]
    return has_prefix and name.rstrip("bwdq") in _STRINGS


def _has_memory(instruction: capstone.CsInsn) -> bool:
    """Whether it may access memory, also that of the stack."""
    import capstone

    name = str(instruction.mnemonic)
    if name.startswith(("nop", "lea", "j")) or name.endswith("jmp"):
        return False
    is_stack = name.startswith(("push", "pop", "call", "ret", "enter", "leave"))
    return is_stack or any(each.type == capstone.CS_OP_MEM for each in instruction.operands)
