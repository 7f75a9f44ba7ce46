# SPDX-License-Identifier: Apache-2.0
"""Copies of stack memory: the kernel sends one if it has no table, and Python continues there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kwatch.kernel.syscall import machine
from kwatch.model.frame import Ending
from kwatch.procfs.address_space import AddressSpace
from kwatch.stacks.assembler import ENDINGS, MAX_COPIES, RawStack
from kwatch.tables.publisher import TablePublisher
from kwatch.tables.unwind_regions import ProcessRegions
from kwatch.unwind.machines import ARM64, X86_64
from kwatch.unwind.walk import Registers, StackMemory, unwind
from kwatch.wire import events
from kwatch.wire.unwind_rows import StackEnd

_MACHINE = ARM64 if machine() == "aarch64" else X86_64


@dataclass(slots=True)
class _Copy:
    """The memory of a stack, starting at the frame for which the kernel had no table."""

    frame: int
    registers: Registers
    data: bytes = b""


class StackCopies:
    """Keeps copies by stack id until the stack is read."""

    def __init__(self, tables: TablePublisher) -> None:
        self._tables = tables
        self._copies: dict[int, _Copy] = {}

    def __contains__(self, identity: object) -> bool:
        return identity in self._copies

    def add(self, record: bytes) -> None:
        """Adds a piece of memory (events.STACK_PIECE); the pieces of a stack arrive in order."""
        piece = np.frombuffer(record, events.STACK_PIECE, 1)[0]
        identity, offset = int(piece["stack"]), int(piece["offset"])
        if not offset:
            pc = int(piece["pc"]) - (not piece["interrupted"])  # inside the call instruction
            registers = Registers(pc, int(piece["sp"]), int(piece["fp"]), int(piece["link"]))
            self._copies[identity] = _Copy(int(piece["frame"]), registers)
        copy = self._copies.get(identity)
        if copy is not None and len(copy.data) == offset:
            copy.data += piece["bytes"][: int(piece["size"])].tobytes()
        while len(self._copies) > MAX_COPIES:
            del self._copies[next(iter(self._copies))]

    def addresses(self, space: AddressSpace, raw: RawStack) -> tuple[list[int], Ending]:
        """The known return addresses of a stack, and how the stack ends."""
        copy = self._copies.pop(raw.stack, None)
        if copy is not None:
            return self._unwound(space, raw, copy)
        if raw.copy == events.StackCopy.NOT_NEEDED and raw.by_frame_pointer:
            return _checked(ProcessRegions(self._tables, raw.pid, space), raw)
        if raw.copy == events.StackCopy.NOT_NEEDED:
            return raw.addresses, raw.ending
        return raw.addresses[: raw.exact], Ending.NO_MAPPING

    def _unwound(self, space: AddressSpace, raw: RawStack, copy: _Copy) -> tuple[list[int], Ending]:
        """Continues with the current tables, which may cover more than when the stack was sent."""
        memory = StackMemory(copy.registers.sp, copy.data)
        code = ProcessRegions(self._tables, raw.pid, space)
        found = unwind(_MACHINE, copy.registers, memory, code, events.MAX_FRAMES)
        addresses = raw.addresses[: copy.frame + 1] + list(found.frames[1:])
        if found.end is StackEnd.COMPLETE:
            return addresses, Ending.FRAME_POINTERS if found.by_frame_pointer else Ending.FINISHED
        return addresses, ENDINGS[found.end]


def _checked(code: ProcessRegions, raw: RawStack) -> tuple[list[int], Ending]:
    """Cuts a wrong address: code without a table may use the frame pointer for other data."""
    first_guess = raw.addresses[raw.exact : raw.exact + 1]
    if all(code.may_return_to(_MACHINE, address) for address in first_guess):
        return raw.addresses, raw.ending
    return raw.addresses[: raw.exact], Ending.NO_ROW
