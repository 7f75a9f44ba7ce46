# SPDX-License-Identifier: Apache-2.0
"""Reads the stacks of all processes from their records, and publishes the unwind tables."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from kwatch.aggregate.syscall_stacks import SyscallStackAccount
from kwatch.model.frame import Ending
from kwatch.model.snapshot import Footprint
from kwatch.processes.process import Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping
from kwatch.stacks.assembler import MAX_COPIES, RawStack, StackAssembler
from kwatch.stacks.copies import StackCopies
from kwatch.stacks.kept import KeptStacks
from kwatch.stacks.lookup import stacks_of
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.tables.publisher import TablePublisher
from kwatch.wire.events import EventType, event_type

_LONGER_S = 0.05  # between looks at whether there is more time
_FINISH_S = 0.002  # limit per batch for reading stacks that have waited for tables
_MAX_UNNAMED = 16384  # stacks with generated code that wait for names

#: Called with each stack that has been read, and its id.
OnStack = Callable[[Process, int, Stack], None]


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """A stack that waits for a table, with the state of its process when it arrived."""

    process: Process
    raw: RawStack
    space: AddressSpace
    mm_id: int


def _ignore(process: Process, identity: int, stack: Stack) -> None:
    """Does nothing with a stack."""


class StackReader:
    """`calls` counts system calls by stack. The symbolizer thread names the stacks of reports."""

    def __init__(
        self,
        tables: TablePublisher,
        symbolizer: Symbolizer,
        calls: SyscallStackAccount,
        on_stack: OnStack = _ignore,
    ) -> None:
        self._tables = tables
        self._symbolizer = symbolizer
        self._on_stack = on_stack
        self.symbolizer_thread = SymbolizerThread(symbolizer)
        self._assembler = StackAssembler()
        self._copies = StackCopies(tables)
        self._kept = KeptStacks(tables, calls)
        self._unfinished: deque[_Unfinished] = deque()

    def prepare(self, files: Iterable[str]) -> None:
        """Builds the tables of files that a process will map."""
        self._tables.prepare(files)

    def load(self, pid: int, code: Iterable[Mapping]) -> None:
        """Builds the tables of files that a process maps."""
        self._tables.load(pid, code)

    def publish(self) -> None:
        """Publishes all changed mappings now, instead of after the next batch."""
        self._tables.publish()

    def mapped(self, process: Process, code: Sequence[Mapping]) -> None:
        """Opens the mapped files now, because the process may be gone later."""
        self._tables.load(process.pid, code)
        self._tables.update(process)
        for mapping in code:
            needs_debug_file = self._symbolizer.prefetch(process.pid, mapping)
            if needs_debug_file and self.symbolizer_thread.waiting < _MAX_UNNAMED:
                job = partial(Symbolizer.find_debug_file, pid=process.pid, mapping=mapping)
                self.symbolizer_thread.submit(job, urgent=True)

    def update_tables(self, process: Process) -> None:
        """The process has new mappings or a new address space."""
        self._tables.update(process)

    def forget(self, process: Process) -> None:
        """The process is no longer traced."""
        self._tables.forget(process)
        self._unfinished = deque(one for one in self._unfinished if one.process is not process)
        self._kept.forget(process)

    def assembled(self, record: bytes) -> RawStack | None:
        """The stack that this record of the stack ring completes, if it does."""
        if event_type(record) == EventType.STACK_MEMORY:
            self._copies.add(record)
            return None
        return self._assembler.add(record)

    def add(self, process: Process, raw: RawStack) -> None:
        """Keeps a stack for reports, at once or when the tables that it needs are built."""
        has_room = len(self._unfinished) < MAX_COPIES
        if raw.stack in self._copies and self._tables.is_loading and has_room:
            space = process.code.space.copy()
            self._unfinished.append(_Unfinished(process, raw, space, process.code.mm_id))
            known = self._stack(space, raw, raw.addresses[: raw.exact], Ending.NO_MAPPING)
            stacks_of(process, raw.of_syscall).unfinished[raw.stack] = known
        else:
            self._keep(process, raw, process.code.space)

    @property
    def has_unfinished(self) -> bool:
        """Whether stacks wait for tables."""
        return bool(self._unfinished)

    @property
    def is_behind(self) -> bool:
        """Whether the stacks that wait for tables can be read now."""
        return self.has_unfinished and not self._tables.is_loading

    def finish(self, seconds: float, may_take_longer: Callable[[], bool] = lambda: False) -> None:
        """Waits at most `seconds` for tables, then reads all stacks that wait for them.

        Waits on while `may_take_longer`.
        """
        self._tables.await_tables(seconds)
        while self._unfinished and self._tables.is_loading and may_take_longer():
            self._tables.await_tables(_LONGER_S)
        self._finish(math.inf)

    def single_frame(self, process: Process, address: int) -> Stack:
        """A stack of which only the innermost return address is known."""
        stack = self._symbolizer.stack(process.pid, process.code.space, [address])
        stack.ending = Ending.OFF
        return stack

    def resend(self, process: Process, stacks: Iterable[int]) -> None:
        """Makes the programs send these stacks again: their frames were dropped."""
        self._tables.resend(process, stacks)

    def batch_done(self, processes: Iterable[Process]) -> None:
        """Call this after each batch, with all processes."""
        self._kept.batch_done()
        self._tables.batch_done(processes)
        if self._symbolizer.has_retired and not self.symbolizer_thread.waiting:
            self.symbolizer_thread.submit(Symbolizer.close_retired)
        if self.is_behind:
            self._finish(_FINISH_S)

    def footprint(self) -> Footprint:
        usage = self._symbolizer.usage()
        return Footprint(self._tables.kernel_bytes, usage.frame_bytes, usage.reader_bytes)

    def close(self) -> None:
        self._tables.close()
        self.symbolizer_thread.close()
        self._symbolizer.close()

    def _finish(self, seconds: float) -> None:
        """Reads stacks that have waited for tables, for at most `seconds`."""
        until = time.monotonic() + seconds
        while self._unfinished and time.monotonic() < until:
            one = self._unfinished.popleft()
            # An exec makes the old stacks of the heap useless, but not those of system calls.
            if one.raw.of_syscall or one.process.code.mm_id == one.mm_id:
                self._keep(one.process, one.raw, one.space)

    def _keep(self, process: Process, raw: RawStack, space: AddressSpace) -> None:
        stack = self._stack(space, raw, *self._copies.addresses(space, raw))
        self._kept.add(process, raw.of_syscall, raw.stack, stack)
        self._on_stack(process, raw.stack, stack)

    def _stack(
        self, space: AddressSpace, raw: RawStack, addresses: list[int], ending: Ending
    ) -> Stack:
        """Returns the stack without names; generated code is named soon, before it changes."""
        stack = self._symbolizer.stack(raw.pid, space, addresses)
        stack.ending = _cut(ending, len(stack.addresses), len(addresses))
        is_generated = any(address.is_generated for address in stack.addresses)
        if is_generated and self.symbolizer_thread.waiting < _MAX_UNNAMED:
            job = partial(Symbolizer.name_generated, stack=stack)
            self.symbolizer_thread.submit(job, urgent=True)
        return stack


def _cut(ending: Ending, shown: int, known: int) -> Ending:
    """The ending: frames from the first address outside all code on have been dropped."""
    return Ending.NO_MAPPING if shown < known else ending
