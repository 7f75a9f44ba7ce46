# SPDX-License-Identifier: Apache-2.0
"""Stacks from their records: chunks put together, what the kernel could not unwind finished."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from kwatch.aggregate.call_stacks import CallStackAccount
from kwatch.aggregate.distinct import distinct
from kwatch.kernel.syscall import machine
from kwatch.model.frame import Ending, Frame
from kwatch.model.snapshot import Footprint
from kwatch.processes.process import Process, Stacks
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping
from kwatch.stacks.assembler import ENDINGS, MAX_COPIES, RawStack, StackAssembler
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.tables.publisher import TablePublisher
from kwatch.tables.unwind_regions import ProcessRegions
from kwatch.unwind.machines import ARM64, X86_64
from kwatch.unwind.walk import Registers, StackMemory, unwind
from kwatch.wire import events
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.events import EventType, NoCallStack, event_type
from kwatch.wire.unwind_rows import StackEnd

MAX_STACKS = 16384  # of a process and a kind, beside those that a report may show
_FINISH_S = 0.002  # for the stacks of one batch that have waited for tables

_MAX_UNNAMED = 16384  # with code that the program has made

_LOST = Stack(ending=Ending.LOST)
_MACHINE = ARM64 if machine() == "aarch64" else X86_64


_WITHOUT = {
    NoCallStack.LOST: Ending.LOST,
    NoCallStack.OFF: Ending.OFF,
    NoCallStack.UNSUPPORTED: Ending.UNSUPPORTED,
}

_Kind = tuple[int, bool]  # stacks of a process (its pid): of system calls, or of allocations


@dataclass(slots=True)
class _Copy:
    """The memory of a stack from the frame on at which the kernel left the tables."""

    frame: int
    registers: Registers
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """A stack that leads where a table is being made; the rest is as when it came."""

    process: Process
    raw: RawStack
    space: AddressSpace
    mm_id: int


@dataclass(slots=True)
class _Leaving:
    """Stacks whose ids the kernel has been told to forget. Events on their way may have them."""

    process: Process
    of_call: bool
    stacks: set[int]
    batches_left: int = 2


class StackReader:
    """Reads the stacks of all processes, and gives the kernel the tables for them.

    `calls` counts system calls by stack. `namer` is for those that a report shows.
    """

    def __init__(
        self, tables: TablePublisher, symbolizer: Symbolizer, calls: CallStackAccount
    ) -> None:
        self._tables = tables
        self._symbolizer = symbolizer
        self._calls = calls
        self.namer = SymbolizerThread(symbolizer)
        self._assembler = StackAssembler()
        self._copies: dict[int, _Copy] = {}
        self._unfinished: deque[_Unfinished] = deque()
        self._leaving: dict[_Kind, _Leaving] = {}
        self._most: dict[_Kind, int] = {}  # stacks of a process, before some have to go

    def prepare(self, files: Iterable[str]) -> None:
        """Makes the tables of files that a process will map."""
        self._tables.prepare(files)

    def load(self, pid: int, code: Iterable[Mapping]) -> None:
        """Makes the tables of files that a process maps."""
        self._tables.load(pid, code)

    def publish(self) -> None:
        """Tells the programs of all mappings that have changed, before the next batch does."""
        self._tables.publish()

    def mapped(self, process: Process, code: Sequence[Mapping]) -> None:
        """Opens what the process has mapped, for when it is gone."""
        self._tables.load(process.pid, code)
        self._tables.update(process)
        for mapping in code:
            if self._symbolizer.prefetch(process.pid, mapping):
                job = partial(Symbolizer.find_debug_file, pid=process.pid, mapping=mapping)
                self.namer.submit(job, urgent=True)

    def update_tables(self, process: Process) -> None:
        """The process has other mappings, or is another program image."""
        self._tables.update(process)

    def forget(self, process: Process) -> None:
        """The process is traced no more."""
        self._tables.forget(process)
        self._unfinished = deque(one for one in self._unfinished if one.process is not process)
        for kind in ((process.pid, False), (process.pid, True)):
            self._leaving.pop(kind, None)
            self._most.pop(kind, None)

    def assembled(self, record: bytes) -> RawStack | None:
        """The stack that is whole with this record of its ring, if one is."""
        if event_type(record) == EventType.STACK_MEMORY:
            self.copied(record)
            return None
        return self.whole(record)

    def copied(self, record: bytes) -> None:
        """A piece of memory (events.STACK_PIECE); those of one stack come in order."""
        piece = np.frombuffer(record, events.STACK_PIECE, 1)[0]
        stack, offset = int(piece["stack"]), int(piece["offset"])
        if not offset:
            pc = int(piece["pc"]) - (not piece["interrupted"])  # into the call
            registers = Registers(pc, int(piece["sp"]), int(piece["fp"]), int(piece["link"]))
            self._copies[stack] = _Copy(int(piece["frame"]), registers)
        copy = self._copies.get(stack)
        if copy is not None and len(copy.data) == offset:
            copy.data += piece["bytes"][: int(piece["size"])].tobytes()
        while len(self._copies) > MAX_COPIES:
            del self._copies[next(iter(self._copies))]

    def whole(self, record: bytes) -> RawStack | None:
        """The stack whose last chunk this is."""
        return self._assembler.add(record)

    def addresses(self, space: AddressSpace, raw: RawStack) -> tuple[list[int], Ending]:
        """The return addresses, as many as are known, and how they end."""
        copy = self._copies.pop(raw.stack, None)
        if copy is not None:
            return self._finished(space, raw, copy)
        if raw.copy == events.StackCopy.NOT_NEEDED and raw.by_frame_pointer:
            return _believed(ProcessRegions(self._tables, raw.pid, space), raw)
        if raw.copy == events.StackCopy.NOT_NEEDED:
            return raw.addresses, raw.ending
        return raw.addresses[: raw.exact], Ending.NO_MAPPING

    def read(self, space: AddressSpace, raw: RawStack) -> Stack:
        """The stack, without names but for code that may soon be another's."""
        return self._stack(space, raw, *self.addresses(space, raw))

    def _stack(
        self, space: AddressSpace, raw: RawStack, addresses: list[int], ending: Ending
    ) -> Stack:
        stack = self._symbolizer.stack(raw.pid, space, addresses)
        stack.ending = _cut(ending, len(stack.addresses), len(addresses))
        if any(call.is_made for call in stack.addresses) and self.namer.waiting < _MAX_UNNAMED:
            self.namer.submit(partial(Symbolizer.name_made, stack=stack), urgent=True)
        return stack

    def finish(self, seconds: float) -> None:
        """Waits so long at most for the tables that stacks wait for, and finishes these."""
        self.await_tables(seconds)
        self._finish(math.inf)

    @property
    def has_unfinished(self) -> bool:
        """Whether stacks wait for tables."""
        return bool(self._unfinished)

    @property
    def is_behind(self) -> bool:
        """Whether stacks that have waited for tables can be finished now."""
        return self.has_unfinished and not self._tables.is_loading

    def await_tables(self, seconds: float) -> None:
        """Waits so long at most for tables that are being made in the background."""
        self._tables.await_tables(seconds)

    def add(self, process: Process, raw: RawStack) -> None:
        """Keeps the stack for the process's reports, if need be when its tables have been made."""
        has_room = len(self._unfinished) < MAX_COPIES
        if raw.stack in self._copies and self._tables.is_loading and has_room:
            space = process.space.copy()
            self._unfinished.append(_Unfinished(process, raw, space, process.mm_id))
            known = self._stack(space, raw, raw.addresses[: raw.exact], Ending.NO_MAPPING)
            _kept(process, raw.of_call).unfinished[raw.stack] = known
        else:
            self._keep(process, raw, process.space)

    def _finish(self, seconds: float) -> None:
        """Stacks that have waited for tables, for at most so long."""
        until = time.monotonic() + seconds
        while self._unfinished and time.monotonic() < until:
            one = self._unfinished.popleft()
            if one.raw.of_call or one.process.mm_id == one.mm_id:  # an exec ends the heap's
                self._keep(one.process, one.raw, one.space)

    def _keep(self, process: Process, raw: RawStack, space: AddressSpace) -> None:
        kept = _kept(process, raw.of_call)
        kept.add(raw.stack, self.read(space, raw))
        kind = process.pid, raw.of_call
        leaving = self._leaving.get(kind)
        if leaving is not None:
            leaving.stacks.discard(raw.stack)
        elif len(kept.by_id) > self._most.get(kind, MAX_STACKS):
            in_use = self._in_use(process, raw.of_call)
            self._most[kind] = len(in_use) + MAX_STACKS
            stacks = kept.by_id.keys() - in_use
            self._tables.resend(process, stacks)
            self._leaving[kind] = _Leaving(process, raw.of_call, stacks)

    def batch_done(self, processes: Iterable[Process]) -> None:
        """Forgets stacks that nothing counts, once no event that has them can come."""
        for kind, leaving in list(self._leaving.items()):
            if leaving.batches_left:
                leaving.batches_left -= 1
                continue
            del self._leaving[kind]
            kept = _kept(leaving.process, leaving.of_call)
            for stack in leaving.stacks - self._in_use(leaving.process, leaving.of_call):
                kept.by_id.pop(stack, None)
        self._tables.batch_done(processes)
        if self._symbolizer.has_retired:
            self.namer.submit(Symbolizer.close_retired)
        if self.is_behind:
            self._finish(_FINISH_S)

    def footprint(self) -> Footprint:
        usage = self._symbolizer.usage()
        return Footprint(self._tables.kernel_bytes, usage.frame_bytes, usage.reader_bytes)

    def _in_use(self, process: Process, of_call: bool) -> set[int]:
        """Stacks that a report may show."""
        if of_call:
            return self._calls.stacks(process.slot)
        return _stacks_of_blocks(process)

    def _finished(
        self, space: AddressSpace, raw: RawStack, copy: _Copy
    ) -> tuple[list[int], Ending]:
        """The tables of now may reach where those of then did not."""
        memory = StackMemory(copy.registers.sp, copy.data)
        code = ProcessRegions(self._tables, raw.pid, space)
        found = unwind(_MACHINE, copy.registers, memory, code, events.MAX_FRAMES)
        addresses = raw.addresses[: copy.frame + 1] + list(found.frames[1:])
        if found.end is StackEnd.COMPLETE:
            return addresses, Ending.FRAME_POINTERS if found.by_frame_pointer else Ending.FINISHED
        return addresses, ENDINGS[found.end]

    def close(self) -> None:
        self._tables.close()
        self.namer.close()
        self._symbolizer.close()


def _believed(code: ProcessRegions, raw: RawStack) -> tuple[list[int], Ending]:
    """Code without a table may use the frame pointer for something else."""
    led_to = raw.addresses[raw.exact : raw.exact + 1]
    if all(code.may_return_to(_MACHINE, address) for address in led_to):
        return raw.addresses, raw.ending
    return raw.addresses[: raw.exact], Ending.NO_ROW


def _kept(process: Process, of_call: bool) -> Stacks:
    return process.call_stacks if of_call else process.heap_stacks


def _stacks_of_blocks(process: Process) -> set[int]:
    if process.heap is None:
        return set()
    counted = {totals.stack for totals in process.heap.by_stack()}
    return counted | set(distinct(process.heap.live_blocks().stacks)[0].tolist())


def _cut(ending: Ending, shown: int, known: int) -> Ending:
    """Frames after the first outside all code have been dropped."""
    return Ending.NO_MAPPING if shown < known else ending


def stack_of(process: Process, stack: int) -> Stack:
    """What is known of an allocation's stack by its id, which may say no more than the function."""
    if 0 < stack <= len(ALLOCATOR_FUNCTIONS):
        function = Frame(0, ALLOCATOR_FUNCTIONS[stack - 1].name)
        return Stack(ending=Ending.OFF, frames=(function,))
    return process.heap_stacks.find(stack) or _LOST


def call_stack_of(process: Process, stack: int) -> Stack:
    """What is known of a system call's stack by its id, which may say why there is none."""
    if stack < events.STACK_IDS:
        return Stack(ending=_WITHOUT[NoCallStack(stack)])
    return process.call_stacks.find(stack) or _LOST
