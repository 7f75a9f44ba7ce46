# SPDX-License-Identifier: Apache-2.0
"""Takes the snapshot of one process from its accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

from kwatch.aggregate import Limits
from kwatch.aggregate.outstanding import ALL_STACKS
from kwatch.model.growth import GrowthEvidence, GrowthKind
from kwatch.model.mark import Mark
from kwatch.model.options import ReportOptions
from kwatch.model.snapshot import (
    Descriptors,
    EndedStats,
    EndedSummary,
    HeapProfile,
    HeapStats,
    MemoryStats,
    ReleaseCount,
    Snapshot,
    StackStats,
    StackTotals,
    SyscallStats,
    SyscallSummary,
)
from kwatch.ownership.releases import candidates
from kwatch.ownership.wrappers import Overrides
from kwatch.processes.process import Process
from kwatch.report.doubts import doubts, thread_end_frees, unknown_frees, unseen_frees
from kwatch.report.growth import growth_of
from kwatch.report.heap_profile import HeapProfiler
from kwatch.report.since_mark import since_mark
from kwatch.report.stack_groups import StackGroups
from kwatch.report.syscall_stacks import SyscallStackLister
from kwatch.report.unseen import level_text, unseen_bytes
from kwatch.report.unsymbolized import UnsymbolizedSnapshot
from kwatch.report.verdict import VerdictInput
from kwatch.report.wrappers import MAX_LISTED, MAX_SKIPPED, WrapperInput, most_bytes
from kwatch.session.session import Session, now_ns
from kwatch.session.tracer import Tracer
from kwatch.stacks.lookup import alloc_stack, mapping_stack, syscall_stack
from kwatch.symbols.stack import Stack
from kwatch.syscalls.names import name
from kwatch.targets.processes import utc_now
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
        for call in self._tracer.calls.pending():
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
        listed = top if kind == "snapshot" else ALL_STACKS
        heap = self._heap(process, at_ns, self._limits(process, listed))
        memory, descriptors = self._memory(process, at_ns), _descriptors(process)
        verdict_input, growth = None, []
        if heap is not None and memory is not None and kind == "final":
            growth = growth_of(process, heap, memory, descriptors)
            verdict_input = self._verdict_input(process, heap, memory, growth)
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
            growth=tuple(growth),
        )
        releases = self._releases(process, heap)  # with the groups of the listed stacks
        if kind == "final":
            self.forget(process)
        footprint = self._session.footprint if kind == "final" else None
        return UnsymbolizedSnapshot(
            snapshot,
            *_stacks(process, snapshot),
            releases,
            self._wrapper_input(process, kind),
            verdict_input,
            footprint,
        )

    def marked(self, process: Process, mark: Mark) -> UnsymbolizedSnapshot:
        """What the process has allocated since the mark before, and not freed."""
        heap = self._heap(process, mark.at_ns, self._limits_since(process, mark))
        since = since_mark(mark, heap.stacks) if heap is not None else None
        if heap is not None:
            heap = replace(heap, stacks=heap.stacks[: self._options.top])
        snapshot = Snapshot(
            kind="mark",
            time=utc_now(),
            elapsed_s=round(max(mark.at_ns - self._started_ns, 0) / 1e9, 3),
            process=process.facts,
            heap=heap,
            memory=None,
            syscalls=None,
            lost=self._session.losses.of(process.pid),
            verdict=None,
            mark=mark.number,
            since_mark=since,
        )
        releases = self._releases(process, heap)
        return UnsymbolizedSnapshot(snapshot, *_stacks(process, snapshot), releases)

    def has_blocks_since(self, process: Process, mark: Mark) -> bool:
        """Whether `marked` would list anything."""
        if process.heap is None:
            return False
        return process.heap.has_blocks(mark.at_ns, self._limits_since(process, mark))

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

    def _limits(self, process: Process, top: int) -> Limits:
        """The blocks that the process itself allocated; inherited blocks are its parent's."""
        traced = self._session.options
        # A block that was outstanding when its process ended counts at any age.
        older_ns = 0 if process.facts.ended_itself else int(self._options.older_s * 1e9)
        began_ns = max(self._started_ns, process.attached_ns, process.forked_ns)
        return Limits(
            *(older_ns, traced.min_size, traced.max_size, process.forked_ns, top),
            began_ns=began_ns,
        )

    def _limits_since(self, process: Process, mark: Mark) -> Limits:
        """Those of them since the mark before, of any age, from all stacks."""
        since_ns = max(mark.since_ns + 1, process.forked_ns)
        return self._limits(process, ALL_STACKS)._replace(older_ns=0, since_ns=since_ns)

    def _heap(self, process: Process, at_ns: int, limits: Limits) -> HeapStats | None:
        if process.heap is None:
            return None
        scan = process.heap_scan
        classes = scan.classes if scan is not None else None
        stats = process.heap.snapshot(at_ns, limits, self._groups.of(process), classes)
        ended = tuple(
            replace(row, ending=alloc_stack(process, row.stack).ending) for row in stats.stacks
        )
        endings = {str(end): count for end, count in process.heap_stacks.endings.items()}
        reach = scan.reach if scan is not None else None
        caches = 0
        if self._is_whole(process):
            ended_threads = self._session.tracees.ended_threads(process)
            caches = thread_end_frees(stats.unknown_frees, ended_threads)
        return replace(stats, stacks=ended, endings=endings, reach=reach, thread_end_frees=caches)

    def _is_whole(self, process: Process) -> bool:
        """Whether kwatch has recorded every allocation of the probed functions."""
        has_lost = self._session.losses.of_heap(process.pid).events > 0
        return process.from_exec and not self._session.options.selects_sizes and not has_lost

    def _releases(
        self, process: Process, heap: HeapStats | None
    ) -> dict[int, list[tuple[ReleaseCount, Stack]]]:
        """The frees of other blocks of the stacks that are listed."""
        if process.heap is None or heap is None:
            return {}
        listed = {row.stack for row in (*heap.stacks, *heap.young_stacks)}
        same = self._groups.of(process)
        found = candidates(process.heap.releases.counts(), listed, same)
        return {
            stack: [(count, alloc_stack(process, count.release)) for count in counts]
            for stack, counts in found.items()
        }

    def _wrapper_input(self, process: Process, kind: str) -> WrapperInput | None:
        """What final reports need to tell wrappers; system-wide, their names must do."""
        traced, options = self._session.options, self._options
        is_wanted = options.wrappers or not traced.system_wide
        if process.heap is None or not traced.heap_stacks or kind != "final" or not is_wanted:
            return None
        totals = process.heap.by_stack()
        number = MAX_LISTED if options.wrappers else MAX_SKIPPED
        return WrapperInput(
            tuple((row, alloc_stack(process, row.stack)) for row in most_bytes(totals, number)),
            Overrides(options.wrapper_names, options.other_names),
            options.wrappers,
        )

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
        self,
        process: Process,
        heap: HeapStats,
        memory: MemoryStats,
        growth: Sequence[GrowthEvidence],
    ) -> VerdictInput:
        growing = tuple(each for each in growth if each.kind is GrowthKind.GROWING)
        may_grow = [each for each in growth if each.kind is not GrowthKind.GROWING]
        gap = self._session.gap(process)
        untraced = "" if gap else self._session.tracees.untraced(process)
        level = level_text(process, memory, untraced)
        is_collected = bool(untraced and level and process.coverage.is_go)
        reasons = (
            gap,
            "" if is_collected else untraced,
            unknown_frees(heap) if self._is_whole(process) else "",
            *doubts(process, heap, memory, may_grow),
        )
        listed = {row.stack for row in heap.stacks}
        young = [row for row in heap.young_stacks if row.stack not in listed]
        grown = growing[0].stacks if growing else ()
        return VerdictInput(
            tuple((row, alloc_stack(process, row.stack)) for row in (*heap.stacks, *young)),
            reach=heap.reach,
            live_blocks=heap.live_blocks,
            program=process.facts.exe,
            lost=self._session.losses.of_heap(process.pid),
            unseen_frees=unseen_frees(process, heap),
            growth=growing,
            growing_stacks={stack: alloc_stack(process, stack) for stack in grown},
            doubts=tuple(filter(None, reasons)),
            collected=untraced if is_collected else "",
            level=level,
            has_events=_was_used(heap) or (process.from_exec and process.facts.ended_itself),
            some_sizes=self._session.options.selects_sizes,
            saw_all=process.from_exec and not self._session.options.selects_sizes,
            is_forked=process.forked_ns > 0,
            pid=0 if process.facts.exited else process.pid,
        )


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
