# SPDX-License-Identifier: Apache-2.0
"""A snapshot whose stacks have no names yet: its numbers are of one moment, names take time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from kwatch.model.frame import Frame
from kwatch.model.snapshot import (
    CallStackStats,
    Footprint,
    HeapProfile,
    HeapStats,
    Snapshot,
    StackStats,
    StackTotals,
    SyscallSummary,
    Verdict,
)
from kwatch.report.verdict import is_caller, judge
from kwatch.symbols.stack import Stack

_Row = TypeVar("_Row", StackStats, StackTotals, CallStackStats)


class Names(Protocol):
    """What names stacks: see `Symbolizer`."""

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]: ...

    def first(
        self, stacks: Sequence[Stack], wanted: Callable[[Frame], bool]
    ) -> list[Frame | None]: ...


@dataclass(frozen=True, slots=True)
class VerdictInput:
    """What is to be judged: all blocks that are old enough to count, by stack; see `judge`."""

    stacks: tuple[StackStats, ...]
    program: str
    exited: bool
    killed_by: str
    lost_heap_events: int
    gap: str


@dataclass(frozen=True, slots=True)
class UnsymbolizedSnapshot:
    """`heap_stacks` and `call_stacks`: those in the snapshot and in the case, by id.

    `footprint` is asked when all has been named. `only_leaks`: the listing is for a leak alone.
    """

    snapshot: Snapshot
    heap_stacks: Mapping[int, Stack] = field(default_factory=dict)
    call_stacks: Mapping[int, Stack] = field(default_factory=dict)
    case: VerdictInput | None = None
    footprint: Callable[[], Footprint | None] | None = None
    only_leaks: bool = False

    @property
    def activity(self) -> int:
        """Events, by which the busiest process is known."""
        heap, syscalls = self.snapshot.heap, self.snapshot.syscalls
        calls = syscalls.calls if syscalls is not None else 0
        return calls + (heap.allocs if heap is not None else 0)

    def without_listing(self) -> UnsymbolizedSnapshot:
        """The same, of which only the numbers and the verdict are to be shown."""
        heap, syscalls = self.snapshot.heap, self.snapshot.syscalls
        snapshot = replace(
            self.snapshot,
            heap=replace(heap, stacks=()) if heap is not None else None,
            syscalls=replace(syscalls, stacks=None) if syscalls is not None else None,
        )
        return replace(self, snapshot=snapshot)

    def complete(self, names: Names) -> Snapshot:
        """The snapshot with names and, if there is a case, with a verdict."""
        verdict, reason = self._judged(self.case, names) if self.case else (None, "")
        is_listed = verdict is Verdict.LEAK or not self.only_leaks
        snapshot = (self if is_listed else self.without_listing()).snapshot
        return replace(
            snapshot,
            heap=self._heap(snapshot.heap, names),
            syscalls=self._syscalls(snapshot.syscalls, names),
            profile=self._profile(snapshot.profile, names),
            verdict=verdict,
            reason=reason,
            kwatch=self.footprint() if self.footprint is not None else None,
        )

    def _heap(self, heap: HeapStats | None, names: Names) -> HeapStats | None:
        if heap is None:
            return None
        return replace(heap, stacks=_named(heap.stacks, self.heap_stacks, names))

    def _syscalls(self, syscalls: SyscallSummary | None, names: Names) -> SyscallSummary | None:
        if syscalls is None or syscalls.stacks is None:
            return syscalls
        return replace(syscalls, stacks=_named(syscalls.stacks, self.call_stacks, names))

    def _profile(self, profile: HeapProfile | None, names: Names) -> HeapProfile | None:
        if profile is None:
            return None
        return replace(profile, stacks=_named(profile.stacks, self.heap_stacks, names))

    def _judged(self, case: VerdictInput, names: Names) -> tuple[Verdict, str]:
        rows = () if case.lost_heap_events else case.stacks  # which decide nothing then
        callers = names.first([self.heap_stacks[row.stack] for row in rows], is_caller)
        return judge(
            list(zip(rows, callers, strict=True)),
            lambda row: names.frames([self.heap_stacks[row.stack]])[0],
            lambda rows, wanted: names.first([self.heap_stacks[r.stack] for r in rows], wanted),
            program=case.program,
            exited=case.exited,
            killed_by=case.killed_by,
            lost_heap_events=case.lost_heap_events,
            gap=case.gap,
        )


class NoSymbols:
    """Names of stacks that have no code, such as of allocations whose stacks are off."""

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        return [stack.frames for stack in stacks]

    def first(self, stacks: Sequence[Stack], wanted: Callable[[Frame], bool]) -> list[Frame | None]:
        return [next(filter(wanted, stack.frames), None) for stack in stacks]


def _named(rows: Sequence[_Row], stacks: Mapping[int, Stack], names: Names) -> tuple[_Row, ...]:
    frames = names.frames([stacks[row.stack] for row in rows])
    return tuple(replace(row, frames=each) for row, each in zip(rows, frames, strict=True))
