# SPDX-License-Identifier: Apache-2.0
"""A snapshot whose stacks have no names yet: its numbers are final, but names take time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from kwatch.model.frame import Frame
from kwatch.model.snapshot import (
    FAULTS,
    CallStackStats,
    Footprint,
    HeapProfile,
    HeapStats,
    MemoryStats,
    ReleaseCount,
    Snapshot,
    StackStats,
    StackTotals,
    SyscallSummary,
    Verdict,
)
from kwatch.ownership.code import Code
from kwatch.ownership.wrappers import Wrappers
from kwatch.procfs.address_space import ReturnAddress
from kwatch.report.attribution import StackSymbolizer
from kwatch.report.ownership import expected_releases, with_owners
from kwatch.report.verdict import VerdictInput, judge
from kwatch.report.wrappers import LazyWrappers, WrapperInput
from kwatch.sinks.release_text import release_sentence
from kwatch.symbols.stack import Stack

_Row = TypeVar("_Row", StackStats, StackTotals, CallStackStats)


@dataclass(frozen=True, slots=True)
class UnsymbolizedSnapshot:
    """`heap_stacks` and `call_stacks`: the stacks in the snapshot and in the verdict_input, by id.

    `releases`: the frees of other blocks of each stack, most blocks first.
    `footprint` is called after all stacks have been named. `only_leaks`: list stacks only if the
    verdict is `leak` or `growing`.
    """

    snapshot: Snapshot
    heap_stacks: Mapping[int, Stack] = field(default_factory=dict)
    call_stacks: Mapping[int, Stack] = field(default_factory=dict)
    releases: Mapping[int, Sequence[tuple[ReleaseCount, Stack]]] = field(default_factory=dict)
    wrapper_input: WrapperInput | None = None
    verdict_input: VerdictInput | None = None
    footprint: Callable[[], Footprint | None] | None = None
    only_leaks: bool = False

    @property
    def activity(self) -> int:
        """How many events the process made; the busiest processes are listed first."""
        heap, syscalls = self.snapshot.heap, self.snapshot.syscalls
        calls = syscalls.calls if syscalls is not None else 0
        return calls + (heap.allocs if heap is not None else 0)

    @property
    def bytes_since_mark(self) -> int:
        """What the report of a mark lists."""
        since = self.snapshot.since_mark
        return since.bytes if since is not None else 0

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
        wrappers = LazyWrappers(self.wrapper_input, symbolizer)
        verdict, reason = (
            judge(self.verdict_input, symbolizer, wrappers.find)
            if self.verdict_input
            else (None, "")
        )
        is_listed = verdict in FAULTS or not self.only_leaks
        snapshot = (self if is_listed else self.without_listing()).snapshot
        heap = self._heap(snapshot.heap, symbolizer, wrappers.known)
        if verdict is Verdict.LEAK and heap is not None:
            reason = _with_release(reason, heap)
        return replace(
            snapshot,
            heap=heap,
            memory=self._memory(snapshot.memory, symbolizer),
            syscalls=self._syscalls(snapshot.syscalls, symbolizer),
            profile=self._profile(snapshot.profile, symbolizer),
            wrappers=wrappers.listed,
            verdict=verdict,
            reason=reason,
            kwatch=self.footprint() if self.footprint is not None else None,
        )

    def _heap(
        self, heap: HeapStats | None, symbolizer: StackSymbolizer, wrappers: Wrappers
    ) -> HeapStats | None:
        if heap is None:
            return None
        stacks, young = (
            with_owners(_named(rows, self.heap_stacks, symbolizer), self._program, wrappers)
            for rows in (heap.stacks, heap.young_stacks)
        )
        releases = expected_releases(self.releases, symbolizer, self._program)
        return replace(
            heap,
            stacks=tuple(replace(row, release=releases.get(row.stack)) for row in stacks),
            young_stacks=tuple(replace(row, release=releases.get(row.stack)) for row in young),
        )

    @property
    def _program(self) -> str:
        return self.snapshot.process.exe

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

    def code(self, stack: Stack, address: ReturnAddress, offset: int) -> Code | None:
        return None


def _with_release(reason: str, heap: HeapStats) -> str:
    """Adds where other blocks of the stack that lost most are freed, if that is known."""
    first = next(iter(heap.stacks), None)
    if first is None or first.release is None or first.reach is None or not first.reach.lost:
        return reason
    return f"{reason}; {release_sentence(first.release, first.reach.lost)}"


def _named(
    rows: Sequence[_Row], stacks: Mapping[int, Stack], symbolizer: StackSymbolizer
) -> tuple[_Row, ...]:
    frames = symbolizer.frames([stacks[row.stack] for row in rows])
    return tuple(replace(row, frames=each) for row, each in zip(rows, frames, strict=True))
