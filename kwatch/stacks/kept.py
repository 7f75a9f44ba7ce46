# SPDX-License-Identifier: Apache-2.0
"""Limits the stacks kept for a process: drops stacks that no report can show."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.aggregate.distinct import distinct
from kwatch.aggregate.syscall_stacks import SyscallStackAccount
from kwatch.processes.process import Process
from kwatch.stacks.lookup import stacks_of
from kwatch.symbols.stack import Stack
from kwatch.tables.publisher import TablePublisher

MAX_STACKS = 16384  # for each process and kind, in addition to those that a report may show

_Kind = tuple[int, bool]  # a pid, and whether the stacks are those of system calls


@dataclass(slots=True)
class _Leaving:
    """Stacks whose ids the kernel was told to forget. Undelivered events may still use them."""

    process: Process
    of_syscall: bool
    stacks: set[int]
    batches_left: int = 2


class KeptStacks:
    """`syscalls` counts system calls by stack."""

    def __init__(self, tables: TablePublisher, syscalls: SyscallStackAccount) -> None:
        self._tables = tables
        self._syscalls = syscalls
        self._leaving: dict[_Kind, _Leaving] = {}
        self._limits: dict[_Kind, int] = {}  # more stacks than this, and some are dropped

    def add(self, process: Process, of_syscall: bool, identity: int, stack: Stack) -> None:
        kept = stacks_of(process, of_syscall)
        kept.add(identity, stack)
        kind = process.pid, of_syscall
        leaving = self._leaving.get(kind)
        if leaving is not None:
            leaving.stacks.discard(identity)
        elif len(kept.by_id) > self._limits.get(kind, MAX_STACKS):
            in_use = self._in_use(process, of_syscall)
            self._limits[kind] = len(in_use) + MAX_STACKS
            stacks = kept.by_id.keys() - in_use
            self._tables.resend(process, stacks)
            self._leaving[kind] = _Leaving(process, of_syscall, stacks)

    def batch_done(self) -> None:
        """Drops stacks that no account uses, when no more events with them can arrive."""
        for kind, leaving in list(self._leaving.items()):
            if leaving.batches_left:
                leaving.batches_left -= 1
                continue
            del self._leaving[kind]
            kept = stacks_of(leaving.process, leaving.of_syscall)
            for stack in leaving.stacks - self._in_use(leaving.process, leaving.of_syscall):
                kept.by_id.pop(stack, None)

    def forget(self, process: Process) -> None:
        for kind in ((process.pid, False), (process.pid, True)):
            self._leaving.pop(kind, None)
            self._limits.pop(kind, None)

    def _in_use(self, process: Process, of_syscall: bool) -> set[int]:
        """Stacks that a report may show."""
        return self._syscalls.stacks(process.slot) if of_syscall else _stacks_of_blocks(process)


def _stacks_of_blocks(process: Process) -> set[int]:
    if (checks := process.accounts.checks) is not None:
        return checks.stack_ids()
    if process.heap is None:
        return set()
    counted = {totals.stack for totals in process.heap.by_stack()}
    counted |= process.heap.releases.stack_ids()
    if process.memory is not None:
        counted |= process.memory.stack_ids()
    return counted | set(distinct(process.heap.live_blocks().stacks)[0].tolist())
