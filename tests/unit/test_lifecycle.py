# SPDX-License-Identifier: Apache-2.0
"""How control records change the traced processes; most tests are stories of pid 7."""

from __future__ import annotations

import time

import numpy as np
import pytest
from harness.records import heap_batch, typed
from harness.story import CHILD, LATER_NS, PID, START_NS, Story, facts

from kwatch.errors import KwatchError
from kwatch.rings.perf_ring import NameRecord
from kwatch.targets import processes
from kwatch.wire.events import EventType

BLOCKS = 3


@pytest.fixture
def story(monkeypatch):
    return Story(monkeypatch)


def allocations():
    return heap_batch(
        {"type": EventType.ALLOC, "address": 64 * i, "size": 8, "stack": 1, "tgid": PID}
        for i in range(1, BLOCKS + 1)
    )


def test_an_exec_before_the_attach_is_no_news(story):
    before = time.monotonic_ns()
    process = story.attach()
    mm_id = process.code.mm_id
    story.execs("other", before)
    story.execs("sh", before, mm_id=5)
    assert story.lifecycle.ending == []
    assert story.process is process
    assert process.code.mm_id == mm_id == story.tracer.mm_id(PID)
    assert process.facts == facts("sh")


def test_an_exit_before_the_attach_is_another_process_of_the_pid(story):
    before = time.monotonic_ns()
    process = story.attach()
    story.happens(EventType.EXIT, before)
    assert story.lifecycle.ending == []
    assert not process.facts.exited


def test_an_exec_after_the_attach_is_followed(story):
    process = story.attach()
    story.execs("sh", time.monotonic_ns(), mm_id=5)
    assert story.process is process
    assert process.code.mm_id == 5


def test_an_exec_out_of_the_name_ends_what_it_was(story):
    process = story.attach()
    process.heap.add(*typed(allocations()))
    assert process.heap.snapshot(0).live_blocks == BLOCKS
    story.execs("ls", time.monotonic_ns())
    assert story.lifecycle.ending == [process]
    assert process.facts.comm == "sh"
    assert process.facts.exe == "/bin/sh"
    assert process.facts.exited
    assert process.heap.snapshot(0).live_blocks == 0
    assert "an exec replaced its program" in story.tracees.gap(process)


def test_who_is_renamed_while_its_end_is_on_the_way_is_attached_anew(story):
    first = story.attach()
    first.heap.add(*typed(allocations()))
    story.tracer.mm_ids.clear()  # by an exec into a name that does not match
    at_exec = time.monotonic_ns()
    story.attaching.attach_named(PID, late=True)
    story.execs("other", at_exec)
    assert [p.facts.exited for p in story.ended] == [True]
    assert story.ended == [first]
    assert first.heap.snapshot(0).live_blocks == 0
    assert story.process is not first
    assert story.process.coverage.late
    assert story.lifecycle.ending == []


def test_a_pid_that_ends_while_it_is_attached_is_an_error_and_no_report(story):
    gone = story.running.pop(PID)
    with pytest.raises(KwatchError, match=r"process 7 \(sh\) ended before"):
        story.attaching.attach(gone)
    assert story.ended == []


def test_who_ends_while_it_is_attached_by_name_is_no_target(story):
    gone = story.running.pop(PID)
    story.attaching.attach(gone, by_comm=True)
    assert story.tracer.mm_ids == {}
    assert [p.facts.exited for p in story.ended] == [True]


def test_a_later_process_of_the_pid_stays_a_target(story):
    process = story.attach()
    mm_id = story.tracer.mm_ids[PID] = 1  # it has been made a target since
    story.tracees.end_gone([process])
    assert story.tracer.mm_ids == {PID: mm_id}


@pytest.mark.parametrize("mm_id", [0, 5])
def test_an_exec_of_a_later_process_whose_birth_went_unseen(story, mm_id):
    """The first process's exit was lost, and the pid was used again."""
    first = story.attach()
    first.heap.add(*typed(allocations()))
    at = time.monotonic_ns()
    story.execs("sh", at, mm_id, start_ns=LATER_NS)
    assert story.reused == [at]
    assert story.ended == [first]
    assert first.facts.exited
    assert first.heap.snapshot(0).live_blocks == BLOCKS
    if mm_id:
        assert story.process.facts.start_time == processes.start_time(LATER_NS)
    else:
        assert story.process is None


def test_an_exec_after_the_exit_is_of_another_process(story):
    """Both may have the same start time, which has a resolution of 10 ms."""
    first = story.attach()
    story.happens(EventType.EXIT, time.monotonic_ns())
    story.execs("sh", time.monotonic_ns(), mm_id=5)
    assert story.ended == [first]
    assert story.process is not first
    assert story.process.code.mm_id == 5


def test_start_times_do_not_move_with_the_clock(monkeypatch):
    before = processes.start_time(START_NS)
    monkeypatch.setattr(processes.time, "time", lambda: 1.0)
    assert processes.start_time(START_NS) == before
    assert not np.isclose(before, 1.0)


def test_the_program_under_a_name_is_what_its_exec_mapped_first(story):
    at, pid = time.monotonic_ns(), CHILD
    story.lifecycle.apply(NameRecord(at, pid, pid, "sh", is_exec=True))
    for path in ("/bin/dash", "/lib/ld.so"):
        story.maps(path, at, pid)
    fields = {"old_tid": pid, "start_ns": LATER_NS, "comm": b"sh", "mm_id": 9, "matched": True}
    story.happens(EventType.EXEC, at + 1, **{"tgid": pid, **fields})
    assert story.tracees.process_table.get(pid).facts.exe == "/bin/dash"
