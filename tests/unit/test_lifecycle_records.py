# SPDX-License-Identifier: Apache-2.0
"""What each kind of control record changes, and which records change nothing."""

from __future__ import annotations

import signal
import time

import pytest
from harness.nothing_held import nothing_held
from harness.records import control_record, heap_batch, typed
from harness.story import CHILD, LATER_NS, PID, START_NS, Birth, Story, facts

from kwatch.model.options import TraceOptions
from kwatch.rings.perf_ring import MappingRecord, NameRecord
from kwatch.session import lifecycle as module
from kwatch.session.lifecycle import Lifecycle
from kwatch.targets import processes
from kwatch.wire.events import EventType

MAPPED, PAGE = 0x1000, 0x1000  # what Story.maps maps


@pytest.fixture
def story(monkeypatch):
    return Story(monkeypatch)


@pytest.fixture
def birth(monkeypatch):
    return Birth(monkeypatch)


def exit_record(time_ns, pid=PID, start_ns=START_NS, comm=b"sh", status=0):
    fields = {"tgid": pid, "start_ns": start_ns, "comm": comm, "status": status}
    return control_record(EventType.EXIT, time_ns, **fields)


def name_record(time_ns, comm, pid=PID, tid=PID, is_exec=False):
    return NameRecord(time_ns, pid, tid, comm, is_exec)


def test_an_exit_ends_the_process_at_its_time(story):
    process, at = story.attach(), time.monotonic_ns()
    story.lifecycle.apply(exit_record(at))
    assert process.facts.exited
    assert process.ended_ns == at
    assert story.lifecycle.ending == [process]


@pytest.mark.parametrize(
    ("status", "killed_by"),
    [
        (0, ""),
        (7 << 8, ""),  # exit(7)
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGSEGV | 0x80, "SIGSEGV"),  # with a core dump
        (40, "signal 40"),  # a real-time signal has no name
    ],
)
def test_an_exit_says_which_signal_killed(story, status, killed_by):
    process = story.attach()
    story.lifecycle.apply(exit_record(time.monotonic_ns(), status=status))
    assert process.facts.killed_by == killed_by


@pytest.mark.parametrize(
    ("has_gaps", "comm", "expected"),
    [
        (False, "other", ("sh", "/bin/sh")),
        (True, "other", ("other", "")),  # an exec may be missing
        (True, "sh", ("sh", "/bin/sh")),
    ],
)
def test_the_name_at_exit_counts_only_where_an_exec_may_be_missing(story, has_gaps, comm, expected):
    process = story.attach()
    story.lifecycle.has_gaps = has_gaps
    story.lifecycle.apply(exit_record(time.monotonic_ns(), comm=comm.encode()))
    assert (process.facts.comm, process.facts.exe) == expected


def test_an_exit_of_a_later_process_ends_the_first_one_too(story):
    """The first exit and the birth of the second process were lost."""
    first, at = story.attach(), time.monotonic_ns()
    story.lifecycle.apply(exit_record(at, start_ns=LATER_NS))
    assert story.reused == [at]
    assert story.ended == [first]
    assert first.ended_ns == at
    (second,) = story.lifecycle.ending
    assert second.facts.start_time == processes.start_time(LATER_NS)
    assert second.coverage.ended_first


def test_a_fork_to_a_known_pid_ends_its_process(birth):
    """Its exit was lost; the pid was used again."""
    birth.forks()
    first = birth.tracees.process_table.get(CHILD)
    birth.at += 10
    fields = {"tgid": PID, "child": CHILD, "child_start_ns": 2 * LATER_NS, "comm": b"sh"}
    birth.lifecycle.apply(control_record(EventType.FORK, birth.at, **fields))
    assert birth.reused == [birth.at]
    assert birth.ended == [first]
    assert (first.facts.exited, first.ended_ns) == (True, birth.at)
    assert birth.tracees.process_table.get(CHILD) is not first


def test_an_end_that_is_known_keeps_its_time(birth):
    birth.forks()
    first = birth.tracees.process_table.get(CHILD)
    first.ended_ns = birth.at + 1
    birth.lifecycle.apply(exit_record(birth.at + 10, pid=CHILD, start_ns=2 * LATER_NS))
    assert first.ended_ns == birth.at + 1


def test_an_exec_is_over_when_its_record_has_come(story):
    process, at = story.attach(), time.monotonic_ns()
    story.renamed_by_exec("sh", at)
    assert process.exec_state.before_exec == facts("sh")
    assert process.exec_state.awaits_program
    story.happens(EventType.EXEC, at + 1, comm=b"sh", matched=True, mm_id=5, old_tid=PID)
    assert process.exec_state.before_exec is None
    assert not process.exec_state.awaits_program


def test_an_exec_begins_with_nothing_mapped(story):
    process = story.attach()
    at = time.monotonic_ns()
    story.maps("/bin/sh", at)
    assert [mapping.path for mapping in process.code.space] == ["/bin/sh"]
    story.renamed_by_exec("sh", at + 1)
    assert len(process.code.space) == 0
    assert process.code.mm_id == 0


@pytest.mark.parametrize(("tid", "expected"), [(PID, "renamed"), (PID + 1, "sh")])
def test_the_first_thread_names_the_process(story, tid, expected):
    process = story.attach()
    story.lifecycle.apply(name_record(time.monotonic_ns(), "renamed", tid=tid))
    assert process.facts.comm == expected
    assert process.facts.exe == "/bin/sh"


def test_a_rename_before_the_attach_is_no_news(story):
    before = time.monotonic_ns()
    process = story.attach()
    story.lifecycle.apply(name_record(before, "earlier"))
    story.maps("/earlier", before)
    assert process.facts.comm == "sh"
    assert len(process.code.space) == 0


def test_what_is_mapped_is_probed_late(story):
    process, at = story.attach(), time.monotonic_ns()
    assert not process.coverage.late
    story.maps("/lib/libmine.so", at)
    assert (process.coverage.late, process.coverage.mapped_ns) == (True, at)


def test_what_is_unmapped_is_that_range_alone(story):
    process, at = story.attach(), time.monotonic_ns()
    for number in range(4):
        start = MAPPED + number * PAGE
        record = MappingRecord(at, PID, start, start + PAGE, 0, (8, 1), 12, f"/{number}")
        story.lifecycle.apply(record)
    fields = {"tgid": PID, "start": MAPPED + PAGE, "size": 2 * PAGE, "unmaps": 1}
    story.lifecycle.apply(control_record(EventType.CODE_UNMAPPED, at + 1, **fields))
    assert [mapping.path for mapping in process.code.space] == ["/0", "/3"]


def test_programs_are_awaited_of_execs_alone(story):
    at = time.monotonic_ns()
    story.lifecycle.apply(name_record(at, "renamed", CHILD, CHILD))
    assert not story.lifecycle._pending_execs
    story.lifecycle.apply(name_record(at, "sh", CHILD, CHILD, is_exec=True))
    assert list(story.lifecycle._pending_execs) == [CHILD]


def test_programs_are_awaited_only_where_names_are_watched(birth):
    birth.lifecycle.apply(name_record(birth.at, "sh", 9, 9, is_exec=True))
    assert not birth.lifecycle._pending_execs


def test_execs_that_never_end_take_bounded_memory(story, monkeypatch):
    monkeypatch.setattr(module, "_MAX_PENDING_EXECS", 3)
    at = time.monotonic_ns()
    for pid in range(100, 110):
        story.lifecycle.apply(name_record(at, "sh", pid, pid, is_exec=True))
    assert set(story.lifecycle._pending_execs) == {107, 108, 109}
    story.lifecycle.apply(exit_record(at + 1, pid=108))
    assert set(story.lifecycle._pending_execs) == {107, 109}


@pytest.mark.parametrize(
    ("now", "comm", "expected"),
    [
        ("/bin/now", "sh", "/bin/now"),
        ("", "sh", "/bin/mapped"),
        ("/bin/next", "next", "/bin/mapped"),  # another exec has followed
    ],
)
def test_the_program_after_an_exec(story, monkeypatch, now, comm, expected):
    process, at = story.attach(), time.monotonic_ns()
    monkeypatch.setattr(processes, "exe_of", lambda pid: now)
    monkeypatch.setattr(processes, "comm_of", lambda pid: comm)
    story.renamed_by_exec("sh", at)
    story.maps("/bin/mapped", at + 1)
    story.happens(EventType.EXEC, at + 2, comm=b"sh", matched=True, mm_id=5, old_tid=PID)
    assert process.facts.exe == expected


def test_exits_are_foreseen_the_first_of_each_pid(story):
    control = [
        name_record(1, "sh"),
        control_record(EventType.FORK, 2, tgid=PID, child=CHILD, comm=b"sh"),
        exit_record(3, comm=b"first"),
        control_record(EventType.EXEC, 4, tgid=PID, comm=b"sh"),
        exit_record(5, start_ns=LATER_NS, comm=b"second"),
    ]
    story.lifecycle.foresee(control)
    assert {pid: found.comm for pid, found in story.tracees.exits.items()} == {PID: "first"}


def test_an_exit_is_no_longer_foreseen_once_it_has_come(story):
    story.attach()
    record = exit_record(time.monotonic_ns())
    story.lifecycle.foresee([record])
    story.lifecycle.apply(record)
    assert story.tracees.exits == {}


@pytest.mark.parametrize(
    ("options", "pid", "concerns"),
    [({}, PID, True), ({}, CHILD, False), ({"heap": False, "call_stacks": False}, PID, False)],
)
def test_which_mapping_records_are_waited_for(story, options, pid, concerns):
    story.attach()
    options = TraceOptions(**{"comms": ("sh",), "heap_stacks": False, **options})
    lifecycle = Lifecycle(options, story.tracees, story.reused.append, nothing_held())
    record = MappingRecord(1, pid, MAPPED, MAPPED + PAGE, 0, (8, 1), 12, "/lib/libc.so")
    assert lifecycle.concerns(record) is concerns
    assert lifecycle.concerns(exit_record(1, pid=pid)) is True


def test_a_child_is_a_target_from_its_fork_on(birth):
    fields = {"tgid": PID, "child": CHILD, "child_start_ns": LATER_NS, "comm": b"sh", "mm_id": 9}
    birth.lifecycle.apply(control_record(EventType.FORK, birth.at, **fields))
    child = birth.tracees.process_table.get(CHILD)
    assert child.code.mm_id == 9
    assert child.forked_ns == birth.at
    assert (child.coverage.late, child.coverage.mapped_ns) == (True, birth.at)


def test_a_fork_before_the_attach_is_no_news(story):
    before = time.monotonic_ns()
    process = story.attach()
    fields = {"tgid": CHILD, "child": PID, "child_start_ns": START_NS, "comm": b"sh", "mm_id": 9}
    story.lifecycle.apply(control_record(EventType.FORK, before, **fields))
    assert story.process is process
    assert (process.facts.exited, process.forked_ns, story.ended) == (False, 0, [])


def test_an_exec_frees_the_heap(story):
    process = story.attach()
    blocks = heap_batch({"type": EventType.ALLOC, "address": 64 * i, "size": 8} for i in (1, 2))
    process.heap.add(*typed(blocks))
    assert process.heap.snapshot(0).live_blocks == 2
    story.execs("sh", time.monotonic_ns(), mm_id=5)
    assert process.heap.snapshot(0).live_blocks == 0


def test_an_exec_out_of_the_name_has_its_time(story):
    process, at = story.attach(), time.monotonic_ns()
    story.execs("ls", at)
    assert process.ended_ns == at


def test_the_program_is_unknown_while_an_exec_is_under_way(story):
    process = story.attach()
    process.coverage.missed_beginning = True
    story.renamed_by_exec("sh", time.monotonic_ns())
    assert process.facts.exe == ""
    assert not process.coverage.missed_beginning


def test_a_name_that_begins_to_match_joins_late(story):
    at = time.monotonic_ns()
    fields = {"old_tid": CHILD, "start_ns": LATER_NS, "comm": b"sh", "mm_id": 9, "matched": True}
    story.lifecycle.apply(control_record(EventType.EXEC, at, tgid=CHILD, **fields))
    joined = story.tracees.process_table.get(CHILD)
    assert (joined.code.mm_id, joined.coverage.late) == (9, True)
