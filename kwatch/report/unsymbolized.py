# SPDX-License-Identifier: Apache-2.0
"""A snapshot whose stacks have no names yet: its numbers are final, but names take time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from kwatch.model.frame import Frame
from kwatch.model.snapshot import (
    CallStackStats,
    Footprint,
    HeapProfile,
    HeapStats,
    MemoryStats,
    Snapshot,
    StackStats,
    StackTotals,
    SyscallSummary,
    Verdict,
)
from kwatch.report.verdict import StackSymbolizer, VerdictInput, judge
from kwatch.symbols.stack import Stack

_Row = TypeVar("_Row", StackStats, StackTotals, CallStackStats)


@dataclass(frozen=True, slots=True)
class UnsymbolizedSnapshot:
    """`heap_stacks` and `call_stacks`: the stacks in the snapshot and in the verdict_input, by id.

    `footprint` is called after all stacks have been named. `only_leaks`: list stacks only if the
    verdict is `leak`.
    """

    snapshot: Snapshot
    heap_stacks: Mapping[int, Stack] = field(default_factory=dict)
    call_stacks: Mapping[int, Stack] = field(default_factory=dict)
    verdict_input: VerdictInput | None = None
    footprint: Callable[[], Footprint | None] | None = None
    only_leaks: bool = False

    @property
    def activity(self) -> int:
        """How many events the process made; the busiest processes are listed first."""
        heap, syscalls = self.snapshot.heap, self.snapshot.syscalls
        calls = syscalls.calls if syscalls is not None else 0
        return calls + (heap.allocs if heap is not None else 0)

    def without_listing(self) -> UnsymbolizedSnapshot:
        """The same snapshot with only its numbers and its verdict."""
        heap, syscalls = self.snapshot.heap, self.snapshot.syscalls
        memory = self.snapshot.memory
        snapshot = replace(
            self.snapshot,
            heap=replace(heap, stacks=(), young_stacks=()) if heap is not None else None,
            memory=replace(memory, stacks=()) if memory is not None else None,
            syscalls=replace(syscalls, stacks=None) if syscalls is not None else None,
        )
        return replace(self, snapshot=snapshot)

    def symbolize(self, symbolizer: StackSymbolizer) -> Snapshot:
        """Returns the snapshot with names and, if it is to be judged, with a verdict."""
        verdict, reason = (
            judge(self.verdict_input, symbolizer) if self.verdict_input else (None, "")
        )
        is_listed = verdict is Verdict.LEAK or not self.only_leaks
        snapshot = (self if is_listed else self.without_listing()).snapshot
        return replace(
            snapshot,
            heap=self._heap(snapshot.heap, symbolizer),
            memory=self._memory(snapshot.memory, symbolizer),
            syscalls=self._syscalls(snapshot.syscalls, symbolizer),
            profile=self._profile(snapshot.profile, symbolizer),
            verdict=verdict,
            reason=reason,
            kwatch=self.footprint() if self.footprint is not None else None,
        )

    def _heap(self, heap: HeapStats | None, symbolizer: StackSymbolizer) -> HeapStats | None:
        if heap is None:
            return None
        return replace(
            heap,
            stacks=_named(heap.stacks, self.heap_stacks, symbolizer),
            young_stacks=_named(heap.young_stacks, self.heap_stacks, symbolizer),
        )

    def _memory(
        self, memory: MemoryStats | None, symbolizer: StackSymbolizer
    ) -> MemoryStats | None:
        if memory is None:
            return None
        return replace(memory, stacks=_named(memory.stacks, self.heap_stacks, symbolizer))

    def _syscalls(
        self, syscalls: SyscallSummary | None, symbolizer: StackSymbolizer
    ) -> SyscallSummary | None:
        if syscalls is None or syscalls.stacks is None:
            return syscalls
        return replace(syscalls, stacks=_named(syscalls.stacks, self.call_stacks, symbolizer))

    def _profile(
        self, profile: HeapProfile | None, symbolizer: StackSymbolizer
    ) -> HeapProfile | None:
        if profile is None:
            return None
        return replace(profile, stacks=_named(profile.stacks, self.heap_stacks, symbolizer))


class NoSymbols:
    """Returns the frames that stacks have already, for runs without stacks."""

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        return [stack.frames for stack in stacks]

    def first(self, stacks: Sequence[Stack], wanted: Callable[[Frame], bool]) -> list[Frame | None]:
        return [next(filter(wanted, stack.frames), None) for stack in stacks]


def _named(
    rows: Sequence[_Row], stacks: Mapping[int, Stack], symbolizer: StackSymbolizer
) -> tuple[_Row, ...]:
    frames = symbolizer.frames([stacks[row.stack] for row in rows])
    return tuple(replace(row, frames=each) for row, each in zip(rows, frames, strict=True))
