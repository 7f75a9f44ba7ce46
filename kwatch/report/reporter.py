# SPDX-License-Identifier: Apache-2.0
"""Takes the snapshot of one process from its accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Literal

from kwatch.aggregate import Limits
from kwatch.aggregate.outstanding import ALL_STACKS
from kwatch.model.options import ReportOptions
from kwatch.model.snapshot import (
    Descriptors,
    EndedStats,
    EndedSummary,
    HeapProfile,
    HeapStats,
    MemoryStats,
    Snapshot,
    StackStats,
    StackTotals,
    SyscallStats,
    SyscallSummary,
)
from kwatch.processes.process import Process
from kwatch.report.doubts import doubts, unknown_frees, unseen_bytes
from kwatch.report.heap_profile import HeapProfiler
from kwatch.report.stack_groups import StackGroups
from kwatch.report.syscall_stacks import SyscallStackLister
from kwatch.report.unsymbolized import UnsymbolizedSnapshot
from kwatch.report.verdict import VerdictInput
from kwatch.session.session import Session, now_ns
from kwatch.session.tracer import Tracer
from kwatch.stacks.lookup import alloc_stack, mapping_stack, syscall_stack
from kwatch.symbols.stack import Stack
from kwatch.syscalls.names import name
from kwatch.targets.processes import utc_now
from kwatch.units import counted, format_seconds
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS


class Reporter:
    """Takes snapshots of a session's processes, with losses as of their last `refresh`."""

    def __init__(self, session: Session, tracer: Tracer, options: ReportOptions) -> None:
        self._session = session
        self._tracer = tracer
        self._options = options
        self._started_ns = now_ns()
        self._in_progress: dict[int, Counter[str]] = {}
        self._began_earlier: dict[int, Counter[str]] = {}
        self._groups = StackGroups(lambda process: process.heap_stacks)
        self._profiler = HeapProfiler(self._groups) if options.profiles else None
        self._calls = SyscallStackLister(session.call_stacks, call_name)

    def note_calls_in_progress(self) -> None:
        """Call this at the end: calls that have not returned are unfinished."""
        for call in self._tracer.call_slots.pending():
            called = call_name(call.abi, call.nr)
            self._in_progress.setdefault(call.pid, Counter())[called] += 1
            if call.began_earlier:
                self._began_earlier.setdefault(call.pid, Counter())[called] += 1

    def snapshot(
        self, process: Process, kind: Literal["snapshot", "final"], now_ns: int
    ) -> UnsymbolizedSnapshot:
        """`now_ns`, on the clock of the events, is the time of the snapshot.

        A process that has ended is reported as of its end. A `final` snapshot gets a verdict, from
        all stacks.
        """
        self._session.tracees.usage.read(process)
        top = self._options.top
        at_ns = process.ended_ns or now_ns
        heap = self._heap(process, at_ns, top if kind == "snapshot" else ALL_STACKS)
        memory, descriptors = self._memory(process, at_ns), _descriptors(process)
        verdict_input = None
        if heap is not None and memory is not None and kind == "final":
            reasons = (
                self._session.gap(process),
                self._unknown_frees(process, heap),
                *doubts(process, heap, memory, descriptors),
                self._too_young(process, at_ns, heap),
            )
            verdict_input = self._verdict_input(process, heap, tuple(filter(None, reasons)))
            heap = replace(heap, stacks=heap.stacks[:top])
        snapshot = Snapshot(
            kind=kind,
            time=utc_now(),
            elapsed_s=round(max(at_ns - self._started_ns, 0) / 1e9, 3),
            process=process.facts,
            heap=heap,
            memory=memory,
            syscalls=self._syscalls(process, top) if self._session.options.syscalls else None,
            lost=self._session.losses.of(process.pid),
            verdict=None,
            descriptors=descriptors,
            profile=self._profile(process),
        )
        if kind == "final":
            self.forget(process)
        footprint = self._session.footprint if kind == "final" else None
        return UnsymbolizedSnapshot(snapshot, *_stacks(process, snapshot), verdict_input, footprint)

    def forget(self, process: Process) -> None:
        """Frees what is kept of a process; its final report does, too."""
        self._groups.forget(process)
        self._calls.forget(process)

    def activity(self, process: Process) -> int:
        """How many events the process made; system-wide, the busiest processes are listed."""
        calls = self._session.syscalls.calls(process.slot)
        return calls + (process.heap.allocs if process.heap is not None else 0)

    def ended(self) -> EndedSummary | None:
        """The processes that have ended, by name; None if there are none, or targets."""
        session, top = self._session, self._options.top
        names = sorted(
            session.ended, key=lambda one: (-session.syscalls.calls(one.slot), -one.processes)
        )
        if not names:
            return None
        summary = session.syscalls.summary if session.options.syscalls else None
        rows = [
            EndedStats(
                one.comm,
                one.processes,
                one.skipped,
                summary(one.slot, call_name) if summary is not None else None,
            )
            for one in names[:top]
        ]
        elapsed_s = round((now_ns() - self._started_ns) / 1e9, 3)
        return EndedSummary(utc_now(), elapsed_s, tuple(rows), len(names) - len(rows))

    def _profile(self, process: Process) -> HeapProfile | None:
        if process.heap is None or self._profiler is None:
            return None
        return self._profiler.profile(process, process.heap)

    def _heap(self, process: Process, at_ns: int, top: int) -> HeapStats | None:
        """Lists the blocks that the process itself allocated; inherited blocks are its parent's."""
        if process.heap is None:
            return None
        traced = self._session.options
        # A block that was outstanding when its process ended counts at any age.
        older_ns = 0 if process.facts.ended_itself else int(self._options.older_s * 1e9)
        limits = Limits(older_ns, traced.min_size, traced.max_size, process.forked_ns, top)
        stats = process.heap.snapshot(at_ns, limits, self._groups.of(process))
        ended = tuple(
            replace(row, ending=alloc_stack(process, row.stack).ending) for row in stats.stacks
        )
        endings = {str(end): count for end, count in process.heap_stacks.endings.items()}
        return replace(stats, stacks=ended, endings=endings)

    def _memory(self, process: Process, at_ns: int) -> MemoryStats | None:
        if process.memory is None:
            return None
        usage = process.usage.last
        stacks = process.memory.stacks(at_ns, Limits(top=self._options.top))
        ended = tuple(
            replace(row, ending=mapping_stack(process, row.stack).ending) for row in stacks
        )
        return replace(
            process.memory.snapshot(),
            anonymous_bytes=usage.anonymous if usage is not None else None,
            anonymous_growth=process.usage.anonymous_growth,
            unseen_bytes=0 if self._session.options.selects_sizes else unseen_bytes(process),
            shared_bytes=usage.shared if usage is not None else 0,
            shared_growth=process.usage.shared_growth,
            stacks=ended,
        )

    def _syscalls(self, process: Process, top: int) -> SyscallSummary:
        summary = self._session.syscalls.summary(process.slot, call_name)
        summary = add_unfinished(
            summary,
            self._in_progress.get(process.pid, Counter()),
            self._began_earlier.get(process.pid, Counter()),
        )
        if not self._session.options.call_stacks:
            return summary
        return self._calls.with_stacks(summary, process, top)

    def _verdict_input(
        self, process: Process, heap: HeapStats, doubts: tuple[str, ...]
    ) -> VerdictInput:
        return VerdictInput(
            tuple((row, alloc_stack(process, row.stack)) for row in heap.stacks),
            program=process.facts.exe,
            exited=process.facts.exited,
            killed_by=process.facts.killed_by,
            lost=self._session.losses.of_heap(process.pid),
            doubts=doubts,
            has_events=_was_used(heap) or (process.from_exec and process.facts.ended_itself),
            some_sizes=self._session.options.selects_sizes,
        )

    def _unknown_frees(self, process: Process, heap: HeapStats) -> str:
        """What is freed without having been allocated, in a program traced from its exec on."""
        if not process.from_exec or self._session.options.selects_sizes:
            return ""
        return unknown_frees(heap, self._session.tracees.ended_threads(process))

    def _too_young(self, process: Process, at_ns: int, heap: HeapStats) -> str:
        """Why outstanding blocks prove nothing: kwatch has not traced for long enough."""
        older_s = self._options.older_s
        began_ns = max(self._started_ns, process.attached_ns, process.forked_ns)
        is_long = at_ns - began_ns >= older_s * 1e9
        if process.facts.ended_itself or is_long or not heap.live_blocks:
            return ""
        blocks = counted(heap.live_blocks, "block is", "blocks are")
        older = format_seconds(older_s)
        return f"{blocks} outstanding, but kwatch traced for less than --older ({older})"


def _was_used(heap: HeapStats) -> bool:
    """Whether anything was allocated or freed."""
    return bool(heap.allocs or heap.frees or heap.unknown_frees or heap.inherited)


def _descriptors(process: Process) -> Descriptors | None:
    usage = process.usage.last
    if usage is None or usage.descriptors is None:
        return None
    return Descriptors(usage.descriptors, process.usage.descriptor_growth)


def _stacks(process: Process, snapshot: Snapshot) -> tuple[dict[int, Stack], dict[int, Stack]]:
    """The stacks of allocations and of system calls that need names, by id."""
    heap, profile, syscalls = snapshot.heap, snapshot.profile, snapshot.syscalls
    mappings = snapshot.memory.stacks if snapshot.memory is not None else ()
    rows: Iterable[StackStats | StackTotals] = chain(
        (*heap.stacks, *heap.young_stacks) if heap is not None else (),
        profile.stacks if profile is not None else (),
    )
    calls = (syscalls.stacks or ()) if syscalls is not None else ()
    return (
        {row.stack: mapping_stack(process, row.stack) for row in mappings}
        | {row.stack: alloc_stack(process, row.stack) for row in rows},
        {row.stack: syscall_stack(process, row.stack) for row in calls},
    )


def call_name(abi: int, number: int) -> str:
    """The name of a system call; numbers that no kernel uses are counted together."""
    return name(Abi(abi), number) if number < CALL_NUMBERS - 1 else "unknown"


def add_unfinished(
    summary: SyscallSummary, counts: Counter[str], earlier: Counter[str]
) -> SyscallSummary:
    """Adds calls in progress to the calls that were unfinished when their thread ended.

    `earlier`: those of them that began before the attach.
    """
    known = {row.name: row for row in summary.by_name}
    for called in sorted(counts.keys() - known.keys()):
        known[called] = SyscallStats(called, 0, 0, 0, 0, 0, 0)
    rows = (
        replace(row, unfinished=row.unfinished + counts[called], began_earlier=earlier[called])
        for called, row in known.items()
    )
    return replace(summary, by_name=tuple(rows))
