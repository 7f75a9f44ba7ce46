# SPDX-License-Identifier: Apache-2.0
"""Events whose process is not known yet, or known by its exit only.

The trace is system-wide; the processes have ended before kwatch looks at /proc.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from harness.nothing_held import nothing_held
from harness.records import control_record, heap_batch, syscall_record

from kwatch.model.losses import LIFECYCLE_MISSED, PROCESS_UNKNOWN
from kwatch.model.options import ReportOptions, TraceOptions
from kwatch.programs.sources import HEAP, SYSCALLS
from kwatch.report.reporter import Reporter, call_name
from kwatch.rings.stream import Drained
from kwatch.session.notices import Notices
from kwatch.session.session import Session, now_ns
from kwatch.targets import processes
from kwatch.wire.events import SYSCALL, EventType

PID = 7
START_NS = 5_000_000_000
CALLS = 5


class Story:
    """`reports`: (comm, calls, unknown frees) of each process that has ended."""

    def __init__(self, monkeypatch):
        self.reports = []
        self.losses = {}
        stream = SimpleNamespace(
            look_ahead=list,
            read_stacks=lambda before_ns: [],
            has_room=lambda: True,
            lost_control_records=0,
            delivered_ns=0,
        )
        self.tracer = SimpleNamespace(
            stream=stream,
            attacher=SimpleNamespace(
                detach=lambda pid: None, reads_all_registers=True, spares_returns=True
            ),
            held=nothing_held(),
            losses=SimpleNamespace(read=lambda: dict(self.losses), forget=lambda pid: None),
            targets=SimpleNamespace(
                own=set(), mm_id=lambda pid: 0, remove=lambda pid, mm_id: False
            ),
        )
        options = TraceOptions(heap_stacks=False)
        self.session = Session(options, self.tracer, Notices(lambda line: None), self.ended)
        self.reporter = Reporter(self.session, self.tracer, ReportOptions())
        monkeypatch.setattr(processes, "facts", lambda pid: None)

    def ended(self, process):
        calls = self.session.syscalls.summary(process.slot, call_name).calls
        heap = process.heap.snapshot(0)
        self.reports.append((process.facts.comm, calls, heap.unknown_frees))
        assert process.facts.exited

    def batch(self, *control, calls=0, frees=0):
        fields = [{"type": EventType.FREE, "address": 64 + i, "tgid": PID} for i in range(frees)]
        record = syscall_record(type=EventType.SYSCALL, tgid=PID, time_ns=50)
        syscalls = [np.array([record] * calls, SYSCALL)]
        ordered, unordered = {HEAP: heap_batch(fields)}, {SYSCALLS: syscalls}
        self.session.apply(Drained(list(control), [], ordered, unordered))


@pytest.fixture
def story(monkeypatch):
    return Story(monkeypatch)


def exit_of(comm, time_ns=100):
    fields = {"tgid": PID, "start_ns": START_NS, "comm": comm}
    return control_record(EventType.EXIT, time_ns, **fields)


def test_the_exit_says_whose_the_events_are(story):
    story.batch(exit_of(b"sleep"), calls=CALLS, frees=2)
    assert story.reports == [("sleep", CALLS, 2)]
    assert story.session.unknown_events == 0


def test_the_exit_comes_with_the_next_batch(story):
    story.batch(calls=CALLS)
    story.batch(exit_of(b"sleep"), calls=1)
    assert story.reports == [("sleep", CALLS + 1, 0)]
    assert story.session.unknown_events == 0


def test_what_nothing_is_known_of_is_lost(story):
    story.batch(calls=CALLS, frees=2)
    assert story.session.unknown_events == CALLS + 2
    story.batch()
    story.batch(exit_of(b"sleep"))
    assert story.reports == [("sleep", 0, 0)]
    story.session.losses.refresh()
    process = story.session.tracees.register(processes.ProcessFacts(8, 1.0, "other", ""))
    lost = story.reporter.snapshot(process, "snapshot", now_ns()).snapshot.lost
    assert lost.by_cause == {PROCESS_UNKNOWN: CALLS + 2}


def test_what_a_thread_does_after_the_exit_makes_no_process(story):
    story.batch(exit_of(b"sleep"), calls=CALLS)
    story.batch(calls=1)
    story.batch()
    assert story.reports == [("sleep", CALLS, 0)]
    assert len(story.session.process_table) == 0
    assert story.session.unknown_events == 1


def test_what_kwatch_does_itself_is_not_lost(story):
    story.tracer.targets.own.add(PID)
    story.batch(calls=CALLS)
    story.batch()
    assert story.session.unknown_events == 0


@pytest.mark.parametrize("cause", ["control_ring_full", LIFECYCLE_MISSED])
def test_an_exit_may_be_among_what_is_lost(story, cause):
    losses = story.session.losses
    losses.refresh()
    assert not losses.may_hide_exit
    story.losses[0] = {cause: 1}
    losses.refresh()
    assert losses.may_hide_exit


def test_who_was_missing_before_what_has_been_handed_on_is_gone(story):
    """Its exit may be among records that have not been delivered yet."""
    process = story.session.tracees.register(processes.ProcessFacts(PID, 1.0, "any", ""))
    before = time.monotonic_ns()
    for _ in range(3):
        assert story.session.tracees.gone(before) == []
    assert story.session.tracees.gone(time.monotonic_ns()) == [process]


def test_after_a_loss_there_are_gaps_until_all_is_read_anew(story):
    """Records from before the loss may still be in the rings."""
    lifecycle, gaps = story.session._lifecycle, []
    for lost in (0, 1, 1):
        story.tracer.stream.lost_control_records = lost
        story.batch()
        gaps.append(lifecycle.has_gaps)
    assert gaps == [False, True, True]
    story.session._gaps._reread_at = 0.0
    story.batch()
    story.batch()
    assert not lifecycle.has_gaps


def test_events_from_before_a_late_attach_are_an_earlier_programs(story):
    """kwatch may attach a process anew before it gets to the events of the program before exec."""
    process = story.session.tracees.register(processes.ProcessFacts(PID, 1.0, "exe", ""))
    process.attached_ns = 10
    fields = [
        {"type": EventType.ALLOC, "address": 64 * time_ns, "tgid": PID, "time_ns": time_ns}
        for time_ns in (8, 9, 10, 11)
    ]
    story.session.apply(Drained([], [], {HEAP: heap_batch(fields)}, {}))
    assert process.heap.allocs == 2
