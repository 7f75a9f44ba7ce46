# SPDX-License-Identifier: Apache-2.0
"""Drafts the snapshot of one process from its accounts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Literal

from kwatch.aggregate import Limits
from kwatch.model.snapshot import (
    HeapStats,
    Lost,
    Snapshot,
    StackStats,
    StackTotals,
    SyscallStats,
    SyscallSummary,
)
from kwatch.processes.process import Process
from kwatch.report.heap_profile import HeapProfiler
from kwatch.report.stack_groups import StackGroups
from kwatch.report.syscall_stacks import SyscallStackLister
from kwatch.report.unsymbolized import UnsymbolizedSnapshot, VerdictInput
from kwatch.session.session import Session, now_ns
from kwatch.session.tracer import LOST_MAPPINGS, MISSED_TRACEPOINTS, Tracer
from kwatch.stacks.reader import call_stack_of, stack_of
from kwatch.symbols.stack import Stack
from kwatch.syscalls.names import name
from kwatch.targets.processes import utc_now
from kwatch.units import format_seconds
from kwatch.wire.events import Abi, Loss
from kwatch.wire.maps import CALL_NUMBERS

_ALL = 1 << 62
_REST = 20  # times as long as reading all losses takes, before all are read again

#: Losses after which the heap's numbers may not be whole; lost frames and calls are not among them.
_HEAP_LOSSES = frozenset(
    loss.name.lower()
    for loss in (
        Loss.HEAP_RING_FULL,
        Loss.CONTROL_RING_FULL,
        Loss.THREADS_MAP_FULL,
        Loss.TARGETS_MAP_FULL,
        Loss.RESULT_UNREADABLE,
        Loss.HEAP_CALL_ABANDONED,
    )
) | {LOST_MAPPINGS, MISSED_TRACEPOINTS}


_CONTROL_LOST = Loss.CONTROL_RING_FULL.name.lower()
_UNSEEN_EXIT = {_CONTROL_LOST, MISSED_TRACEPOINTS}

#: An event that is in no report, because nothing is known of its process.
UNKNOWN_PROCESS = "process_unknown"


class Reporter:
    """Takes the snapshots of a session's processes. Losses are read anew by `refresh`."""

    def __init__(self, session: Session, tracer: Tracer) -> None:
        self._session = session
        self._tracer = tracer
        self._started_ns = now_ns()
        self._losses: dict[int, dict[str, int]] = {}
        self._next_refresh = 0.0
        self._unknown: dict[int, int] = {}  # pids with losses and without a process: since when
        self._finished = False
        self._in_progress: dict[int, Counter[str]] = {}
        self._same = StackGroups(lambda process: process.heap_stacks)
        self._profiler = HeapProfiler(self._same) if session.options.profiles.wanted else None
        self._calls = SyscallStackLister(session.call_stacks, call_name)

    def refresh_of(self, pid: int) -> None:
        """Reads the losses of one process; all, unless that was lately, for what it takes."""
        if time.monotonic() >= self._next_refresh:
            self.refresh()
        else:  # also if there are none: an earlier process of the pid may have had some
            self._losses[pid] = self._tracer.losses_of(pid)

    def refresh(self) -> None:
        began = time.monotonic()
        self._losses = self._tracer.losses()
        nobodys = self._losses.setdefault(0, {})
        self._disown(nobodys)
        if events := self._session.unknown_events:
            nobodys[UNKNOWN_PROCESS] = events
        now = time.monotonic()
        self._next_refresh = now + _REST * (now - began)

    def _disown(self, nobodys: dict[str, int]) -> None:
        """What was lost of processes that nobody will come to know counts for all."""
        known, now = self._session.process_table, now_ns()
        unknown = [pid for pid in self._losses if pid and known.get(pid) is None]
        self._unknown = {pid: self._unknown.get(pid, now) for pid in unknown}
        for pid, since_ns in self._unknown.items():
            if self._finished or since_ns < self._tracer.stream.delivered_ns:
                self._tracer.disown_losses(pid)
                _add(nobodys, self._losses.pop(pid))
            elif lost := self._losses[pid].get(_CONTROL_LOST):
                _add(nobodys, {_CONTROL_LOST: lost})  # perhaps the fork that would tell of it

    @property
    def lost_control(self) -> bool:
        """Whether an exit may have gone unseen."""
        return any(_UNSEEN_EXIT & causes.keys() for causes in self._losses.values())

    def finish(self) -> None:
        """Nothing follows: the calls that have not returned are unfinished."""
        self._finished = True
        for pid, abi, number in self._tracer.calls_in_progress():
            self._in_progress.setdefault(pid, Counter())[call_name(abi, number)] += 1

    def draft(
        self, process: Process, kind: Literal["snapshot", "final"], now_ns: int
    ) -> UnsymbolizedSnapshot:
        """`now_ns`, on the clock of the events: the moment, unless the process has ended before.

        `final` is to be judged, by all stacks.
        """
        options, lost = self._session.options, self._lost(process.pid)
        top = options.listing.top
        at_ns = process.ended_ns or now_ns
        heap = self._heap(process, at_ns, top if kind == "snapshot" else _ALL)
        profile = case = None
        if process.heap is not None and self._profiler is not None:
            profile = self._profiler.profile(process, process.heap)
        if heap is not None and kind == "final":
            case = self._case(process, at_ns, heap, lost)
            heap = replace(heap, stacks=heap.stacks[:top])
        syscalls = self._syscalls(process, top) if options.syscalls else None
        if kind == "final":
            self._same.forget(process)
            self._calls.forget(process)
        snapshot = Snapshot(
            kind=kind,
            time=utc_now(),
            elapsed_s=round(max(at_ns - self._started_ns, 0) / 1e9, 3),
            process=process.facts,
            heap=heap,
            memory=process.memory.snapshot() if process.memory is not None else None,
            syscalls=syscalls,
            lost=lost,
            verdict=None,
            profile=profile,
        )
        footprint = self._session.footprint if kind == "final" else None
        return UnsymbolizedSnapshot(snapshot, *_stacks(process, snapshot, case), case, footprint)

    def _heap(self, process: Process, at_ns: int, top: int) -> HeapStats | None:
        """Lists what the process itself has allocated: what came with a fork is its parent's."""
        if process.heap is None:
            return None
        listing = self._session.options.listing
        # A block that outlives its process was not going to be freed, however young it is.
        older_ns = 0 if process.facts.ended_itself else int(listing.older_s * 1e9)
        limits = Limits(older_ns, listing.min_size, listing.max_size, process.forked_ns, top)
        stats = process.heap.snapshot(at_ns, limits, self._same.of(process))
        ended = tuple(
            replace(row, ending=stack_of(process, row.stack).ending) for row in stats.stacks
        )
        endings = {str(end): count for end, count in process.heap_stacks.endings.items()}
        return replace(stats, stacks=ended, endings=endings)

    def _syscalls(self, process: Process, top: int) -> SyscallSummary:
        summary = self._session.syscalls.summary(process.slot, call_name)
        summary = add_unfinished(summary, self._in_progress.get(process.pid, Counter()))
        if not self._session.options.call_stacks:
            return summary
        return self._calls.with_stacks(summary, process, top)

    def _lost(self, pid: int) -> Lost:
        """Losses of the process, and those of which it is not known whose they are."""
        causes: dict[str, int] = {}
        for owner in (pid, 0):
            _add(causes, self._losses.get(owner, {}))
        return Lost(sum(causes.values()), causes)

    def _case(self, process: Process, at_ns: int, heap: HeapStats, lost: Lost) -> VerdictInput:
        return VerdictInput(
            heap.stacks,
            program=process.facts.exe,
            exited=process.facts.exited,
            killed_by=process.facts.killed_by,
            lost_heap_events=sum(n for cause, n in lost.by_cause.items() if cause in _HEAP_LOSSES),
            gap=self._session.tracees.gap(process) or self._too_young(process, at_ns, heap),
        )

    def _too_young(self, process: Process, at_ns: int, heap: HeapStats) -> str:
        """Why blocks that are outstanding say nothing, if none of them can be old enough."""
        older_s = self._session.options.listing.older_s
        began_ns = max(self._started_ns, process.attached_ns, process.forked_ns)
        is_long = at_ns - began_ns >= older_s * 1e9
        if process.facts.ended_itself or is_long or not heap.live_blocks:
            return ""
        blocks = "1 block is" if heap.live_blocks == 1 else f"{heap.live_blocks:,} blocks are"
        older = format_seconds(older_s)
        return f"{blocks} outstanding, but kwatch has seen none for as long as --older ({older})"


def _stacks(
    process: Process, snapshot: Snapshot, case: VerdictInput | None
) -> tuple[dict[int, Stack], dict[int, Stack]]:
    """The stacks of allocations and of system calls that have to be named, by id."""
    heap, profile, syscalls = snapshot.heap, snapshot.profile, snapshot.syscalls
    rows: Iterable[StackStats | StackTotals] = chain(
        heap.stacks if heap is not None else (),
        profile.stacks if profile is not None else (),
        case.stacks if case is not None else (),
    )
    calls = (syscalls.stacks or ()) if syscalls is not None else ()
    return (
        {row.stack: stack_of(process, row.stack) for row in rows},
        {row.stack: call_stack_of(process, row.stack) for row in calls},
    )


def _add(total: dict[str, int], causes: dict[str, int]) -> None:
    for cause, count in causes.items():
        total[cause] = total.get(cause, 0) + count


def call_name(abi: int, number: int) -> str:
    """The call's name; numbers that no kernel has are counted together."""
    return name(Abi(abi), number) if number < CALL_NUMBERS - 1 else "unknown"


def add_unfinished(summary: SyscallSummary, counts: Counter[str]) -> SyscallSummary:
    """Adds calls in progress to those that a thread's end has left unfinished."""
    left = counts.copy()
    rows = []
    for row in summary.by_name:
        rows.append(replace(row, unfinished=row.unfinished + left.pop(row.name, 0)))
    rows += [SyscallStats(called, 0, 0, 0, 0, 0, 0, n) for called, n in sorted(left.items())]
    return replace(summary, by_name=tuple(rows))
