# SPDX-License-Identifier: Apache-2.0
"""Lists the stacks from which a process made its system calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kwatch.aggregate.syscall_stacks import SyscallStackAccount
from kwatch.model.snapshot import CallStackStats, SyscallSummary
from kwatch.processes.process import Process
from kwatch.report.stack_groups import StackGroups
from kwatch.stacks.lookup import syscall_stack


class SyscallStackLister:
    """Calls with the same name, given by `name_of(abi, nr)`, and stack are counted together."""

    def __init__(self, account: SyscallStackAccount, name_of: Callable[[int, int], str]) -> None:
        self._account = account
        self._name_of = name_of
        self._groups = StackGroups(lambda process: process.call_stacks)

    def with_stacks(self, summary: SyscallSummary, process: Process, top: int) -> SyscallSummary:
        """Returns the summary with the stacks that took the most time."""
        stats = self._merged(process)
        stats.sort(key=lambda s: (-s.total_ns, -s.calls, s.name, s.stack))
        endings = {str(end): count for end, count in process.call_stacks.endings.items()}
        return replace(
            summary,
            endings=endings,
            stacks=tuple(
                replace(one, ending=syscall_stack(process, one.stack).ending) for one in stats[:top]
            ),
            other_calls=self._account.others(process.slot),
        )

    def forget(self, process: Process) -> None:
        self._groups.forget(process)

    def _merged(self, process: Process) -> list[CallStackStats]:
        rows = list(self._account.rows(process.slot))
        stacks = self._groups.of(process)([row.stack for row in rows])
        merged: dict[tuple[str, int], CallStackStats] = {}
        for row, stack in zip(rows, stacks, strict=True):
            name = self._name_of(row.abi, row.nr)
            other = merged.get((name, stack), CallStackStats(stack, name, 0, 0, 0))
            merged[name, stack] = CallStackStats(
                stack,
                name,
                other.calls + row.calls,
                other.errors + row.errors,
                other.total_ns + row.total_ns,
            )
        return list(merged.values())
