# SPDX-License-Identifier: Apache-2.0
"""Names the function whose frame contains a word of a stack, without stopping the thread."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise

from kwatch.kernel.syscall import machine
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.current_call import blocked_position
from kwatch.procfs.mappings import read_mappings
from kwatch.reach.memory import TargetMemory, Unreadable
from kwatch.reach.regions import Region as MappedRegion
from kwatch.reach.thread_state import ThreadState
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.tables.table_loader import TableLoader
from kwatch.unwind.machines import ARM64, X86_64
from kwatch.unwind.table import Table
from kwatch.unwind.walk import Region, Regions, Registers, StackMemory, unwind

_MACHINE, _FRAME_POINTER = (ARM64, "x29") if machine() == "aarch64" else (X86_64, "rbp")
_MAX_FRAMES = 1024
_MAX_BYTES = 1 << 20
_BELOW = 128  # a function may save registers in the red zone


def function_at(
    memory: TargetMemory, thread: ThreadState, region: MappedRegion, address: int
) -> str:
    """The function whose frame contains the address, on the stack of a thread that waits.

    Empty if it is unknown: the thread has run since the scan, or its stack cannot be unwound so
    far. Raises KwatchError.
    """
    position = blocked_position(memory.pid, thread.tid)
    if position is None or position[0] != thread.stack_pointer:
        return ""
    sp, pc = position
    fp = dict(zip(thread.names, thread.registers.tolist(), strict=True)).get(_FRAME_POINTER, 0)
    start = max(sp - _BELOW, region.start)
    try:
        data = memory.bytes(start, min(region.end - start, _MAX_BYTES)).tobytes()
    except Unreadable:
        return ""
    space = AddressSpace(read_mappings(memory.pid))
    stack, code, pointers = StackMemory(start, data), _Code(memory.pid, space), list[int]()
    found = unwind(_MACHINE, Registers(pc, sp, fp), stack, code, _MAX_FRAMES, pointers)
    if found.by_frame_pointer:  # a guess
        return ""
    # Where the outermost frame ends is not known.
    for pc, (first, end) in zip(found.frames, pairwise(pointers), strict=False):
        if first <= address < end:
            return _name(memory.pid, space, pc)
    return ""


def _name(pid: int, space: AddressSpace, pc: int) -> str:
    with closing(Symbolizer()) as symbolizer:
        (names,) = symbolizer.frames([symbolizer.stack(pid, space, [pc])])
    return names[-1].symbol if names else ""


class _Code(Regions):
    """Loads the tables of the files to which a stack leads."""

    def __init__(self, pid: int, space: AddressSpace) -> None:
        super().__init__([])
        self._pid = pid
        self._space = space
        self._loader = TableLoader(_drop)
        self._tables: dict[tuple[int, int, str], Table | None] = {}

    def find(self, address: int) -> Region | None:
        mapping = self._space.find(address)
        if mapping is None:
            return None
        key = mapping.device, mapping.inode, mapping.path
        if key not in self._tables:
            try:
                self._tables[key] = self._loader.load_mapped(self._pid, mapping)
            except FileNotFoundError:
                self._tables[key] = None
        table = self._tables[key]
        bias = table.bias(mapping.start, mapping.end, mapping.offset) if table else None
        if bias is None:
            return Region(mapping.start, mapping.end)
        return Region(mapping.start, mapping.end, bias, table)


def _drop(_: str) -> None:
    """What has no table ends the walk; nobody has to be told."""
