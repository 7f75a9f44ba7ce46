# SPDX-License-Identifier: Apache-2.0
"""Unwinds one stack from registers and a copy of its memory, without access to the process.

The rules are those of bpf/unwind_rows.h, and the BPF programs apply the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from kwatch.unwind.machines import ARM64, Machine
from kwatch.unwind.table import Table
from kwatch.wire.unwind_rows import (
    ARM64_FP_BASE,
    ARM64_PC_MASK,
    ARM64_RA_MASK,
    FP_AT_FP,
    FP_SAME,
    Arm64Ra,
    RowKind,
    StackEnd,
    arm64_cfa,
    arm64_slot,
    kind_of,
    x86_cfa,
    x86_fp,
)

_MASK = (1 << 64) - 1
# Offsets in struct rt_sigframe of fp, sp, pc, and of fp, lr, sp, pc: bpf/unwind_rows.h SIGNAL_*
_X86_SIGNAL = (120, 160, 168)
_ARM64_SIGNAL = (544, 552, 560, 568)


@dataclass(frozen=True, slots=True)
class Registers:
    """`lr` is x30 of arm64, 0 if unknown. `pc` is an instruction, not a return address."""

    pc: int
    sp: int
    fp: int
    lr: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A mapping of code, and its table if there is one: pc of a row = address - bias."""

    start: int
    end: int
    bias: int = 0
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Unwound:
    """`frames` are the pc and the return addresses, innermost first."""

    frames: tuple[int, ...]
    end: StackEnd
    by_frame_pointer: bool


class Regions:
    """The code of an address space. Regions must not overlap."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._regions = sorted(regions, key=lambda region: region.start)
        self._starts = [region.start for region in self._regions]

    def find(self, address: int) -> Region | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._regions[index].end:
            return self._regions[index]
        return None


@dataclass(frozen=True, slots=True)
class StackMemory:
    """`data` is the memory at address `start`, which is at or below sp.

    On x86-64 it should begin 128 bytes below sp: functions may save registers in the red zone.
    """

    start: int
    data: bytes

    def word(self, address: int) -> int:
        at = (address & _MASK) - self.start
        if not 0 <= at <= len(self.data) - 8:
            raise _Ended(StackEnd.UNREADABLE)
        return int.from_bytes(self.data[at : at + 8], "little")


def unwind(
    machine: Machine,
    registers: Registers,
    stack: StackMemory,
    regions: Regions,
    limit: int,
    pointers: list[int] | None = None,
) -> Unwound:
    """The frames of a stack, as many as can be unwound but at most `limit`, and how they end.

    `pointers` takes where the memory of each of these frames begins.
    """
    walk = _Arm64Walk if machine is ARM64 else _X86Walk
    return walk(registers, stack, regions).run(limit, pointers)


class _Ended(Exception):
    def __init__(self, end: StackEnd) -> None:
        self.end = end


class _Walk(ABC):
    """The frame that the walk has reached. `exact`: `pc` is an instruction, no return address."""

    def __init__(self, registers: Registers, stack: StackMemory, regions: Regions) -> None:
        self.pc, self.sp, self.fp = registers.pc, registers.sp, registers.fp
        self.lr: int | None = registers.lr or None
        self.exact = True
        self._stack = stack
        self._regions = regions
        self._by_frame_pointer = False

    def saved(self, address: int) -> int:
        """The caller's fp, from where it was saved.

        In an epilogue it has been popped, but the rules still name its slot, which is below sp by
        then. The copy may not contain that slot, but the register has the same value.
        """
        try:
            return self.word(address)
        except _Ended:
            if address < self.sp:
                return self.fp
            raise

    def run(self, limit: int, pointers: list[int] | None) -> Unwound:
        frames = [self.pc]
        if pointers is not None:
            pointers.append(self.sp)
        try:
            while len(frames) < limit:
                self._step()
                if not self.pc:
                    raise _Ended(StackEnd.COMPLETE)
                frames.append(self.pc)
                if pointers is not None:
                    pointers.append(self.sp)
            end = StackEnd.TOO_DEEP
        except _Ended as ended:
            end = ended.end
        return Unwound(tuple(frames), end, self._by_frame_pointer)

    def word(self, address: int) -> int:
        return self._stack.word(address)

    @abstractmethod
    def follow(self, rule: int) -> None:
        """Goes to the caller by a rule of the machine."""

    @abstractmethod
    def after_signal(self) -> None:
        """Goes to the frame that the signal interrupted; `sp` is at the trampoline."""

    def go_to(self, pc: int, sp: int, fp: int, *, may_stay: bool = False) -> None:
        sp &= _MASK
        if sp < self.sp or (sp == self.sp and not may_stay):
            raise _Ended(StackEnd.CORRUPT)
        self.pc, self.sp, self.fp, self.lr, self.exact = pc, sp, fp, None, False

    def _step(self) -> None:
        address = self.pc if self.exact else self.pc - 1
        region = self._regions.find(address)
        if region is None:
            self._by_chain(StackEnd.NO_MAPPING)
            return
        table = region.table
        rule = table.rule_at(address - region.bias) if table else int(RowKind.NONE)
        match kind_of(rule):
            case RowKind.NONE:
                self._by_chain(StackEnd.NO_ROW)
            case RowKind.UNSUP:
                raise _Ended(StackEnd.UNSUPPORTED)
            case RowKind.END:
                raise _Ended(StackEnd.COMPLETE)
            case RowKind.SIGNAL:
                self.after_signal()
                self.exact = True
            case _:
                self.follow(rule)

    def _by_chain(self, otherwise: StackEnd) -> None:
        """Goes to the caller by the frame pointer, because there are no rows."""
        if not self.fp and self._by_frame_pointer:
            raise _Ended(StackEnd.COMPLETE)
        if self.fp % 8 or self.fp < self.sp:
            raise _Ended(otherwise)
        try:
            caller_fp, pc = self.word(self.fp), self.word(self.fp + 8)
        except _Ended:
            raise _Ended(otherwise) from None
        self.go_to(self.return_address(pc), self.fp + 16, caller_fp)
        self._by_frame_pointer = True

    def return_address(self, value: int) -> int:
        """The return address without the bits that sign it."""
        return value


class _X86Walk(_Walk):
    def follow(self, rule: int) -> None:
        cfa = self._cfa(rule)
        if cfa < self.sp or (cfa == self.sp and not self.exact):
            raise _Ended(StackEnd.CORRUPT)
        match x86_fp(rule):
            case k if k == FP_SAME:
                fp = self.fp
            case k if k == FP_AT_FP:
                fp = self.word(self.fp)
            case k:
                fp = self.saved(cfa + 8 * k)
        self.go_to(self.word(cfa - 8), cfa, fp, may_stay=self.exact)

    def _cfa(self, rule: int) -> int:
        offset = x86_cfa(rule)
        match kind_of(rule):
            case RowKind.SP:
                return self.sp + offset & _MASK
            case RowKind.FP:
                return self.fp + offset & _MASK
            case RowKind.DEREF:
                return self.word(self.fp + offset)
            case RowKind.PLT:
                address = self.pc if self.exact else self.pc - 1
                return self.sp + (16 if (address & 15) >= offset else 8) & _MASK
        raise _Ended(StackEnd.UNSUPPORTED)

    def after_signal(self) -> None:
        # The interrupted frame may be on another stack, so its sp may be lower than this one.
        self.fp, self.sp, self.pc = (self.word(self.sp + at) for at in _X86_SIGNAL)


class _Arm64Walk(_Walk):
    def follow(self, rule: int) -> None:
        kind = kind_of(rule)
        base = self.fp if kind & ARM64_FP_BASE else self.sp
        cfa = base + arm64_cfa(rule) & _MASK
        slot = cfa - arm64_slot(rule)
        fp, ra = self.fp, self.lr
        match Arm64Ra(kind & ARM64_RA_MASK):
            case Arm64Ra.PAIR:
                fp, ra = self.saved(slot), self.word(slot + 8)
            case Arm64Ra.ALONE:
                ra = self.word(slot)
            case Arm64Ra.REG_FP:
                fp = self.saved(slot)
        if ra is None:
            raise _Ended(StackEnd.UNSUPPORTED)
        self.go_to(self.return_address(ra), cfa, fp, may_stay=self.lr is not None)

    def after_signal(self) -> None:
        self.fp, self.lr, self.sp, self.pc = (self.word(self.sp + at) for at in _ARM64_SIGNAL)

    def return_address(self, value: int) -> int:
        return value & ARM64_PC_MASK
