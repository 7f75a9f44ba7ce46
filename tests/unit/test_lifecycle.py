# SPDX-License-Identifier: Apache-2.0
"""What control records make of the traced processes, told as stories of pid 7 and its like."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from harness.records import control_record, heap_batch

from kwatch import tracees as module
from kwatch.events import EventType
from kwatch.kernel.control_ring import NameRecord
from kwatch.lifecycle import Lifecycle
from kwatch.maps import Target
from kwatch.options import WatchOptions
from kwatch.snapshot import ProcessFacts
from kwatch.targets import processes
from kwatch.tracees import Tracees

PID = 7
START_NS = 5_000_000_000
LATER_NS = START_NS + 20_000_000
BLOCKS = 3


class Targets:
    """Stands for the tracer, and for the BPF programs' map of targets."""

    def __init__(self):
        self.images = {}
        self.attacher = SimpleNamespace(detach=lambda pid: None)

    def add_target(self, pid, flags):
        self.images[pid] = 1000 + len(self.images)
        return Target(self.images[pid], flags)

    def image(self, pid):
        return self.images.get(pid, 0)

    def is_target(self, pid):
        return pid in self.images

    def remove_target(self, pid, image):
        return self.images.get(pid) == image and self.images.pop(pid) == image

    def forget_losses(self, pid):
        pass


class Story:
    """`running` are the processes of /proc, `ended` the facts of those that were reported."""

    def __init__(self, monkeypatch):
        self.running = {PID: facts("sh")}
        self.ended = []
        self.reused = []
        self.tracer = Targets()
        options = WatchOptions(comms=("sh",), heap_stacks=False)
        self.tracees = Tracees(options, self.tracer, None, lambda p: self.ended.append(p))
        self.lifecycle = Lifecycle(options, self.tracees, self.reused.append)
        monkeypatch.setattr(module, "read_mappings", lambda pid: [])
        monkeypatch.setattr(processes, "facts", self.running.get)
        monkeypatch.setattr(processes, "name_matches", self.matches)

    def matches(self, pid, names):
        return self.running[pid].comm in names

    @property
    def process(self):
        return self.tracees.registry.get(PID)

    def attach(self):
        self.tracees.attach(self.running[PID], by_comm=True)
        return self.process

    def renamed_by_exec(self, comm, time_ns):
        self.lifecycle.apply(NameRecord(time_ns, PID, PID, comm, is_exec=True))

    def happens(self, kind, time_ns, **fields):
        fields = {"tgid": PID, "start_ns": START_NS, **fields}
        self.lifecycle.apply(control_record(kind, time_ns, **fields))

    def execs(self, comm, time_ns, image=0, start_ns=START_NS):
        self.renamed_by_exec(comm, time_ns - 1)
        fields = {"old_tid": PID, "start_ns": start_ns, "comm": comm.encode()}
        self.happens(EventType.EXEC, time_ns, matched=bool(image), image=image, **fields)


@pytest.fixture
def story(monkeypatch):
    return Story(monkeypatch)


def facts(comm, start_ns=START_NS):
    return ProcessFacts(PID, processes.start_time(start_ns), comm, f"/bin/{comm}")


def allocations():
    return heap_batch(
        {"type": EventType.ALLOC, "address": 64 * i, "size": 8, "stack": 1, "tgid": PID}
        for i in range(1, BLOCKS + 1)
    )


def test_an_exec_before_the_attach_is_no_news(story):
    before = time.monotonic_ns()
    process = story.attach()
    image = process.image
    story.execs("other", before)
    story.execs("sh", before, image=5)
    assert story.lifecycle.ending == []
    assert story.process is process
    assert process.image == image == story.tracer.image(PID)
    assert process.facts == facts("sh")


def test_an_exit_before_the_attach_is_another_process_of_the_pid(story):
    before = time.monotonic_ns()
    process = story.attach()
    story.happens(EventType.EXIT, before)
    assert story.lifecycle.ending == []
    assert not process.facts.exited


def test_an_exec_after_the_attach_is_followed(story):
    process = story.attach()
    story.execs("sh", time.monotonic_ns(), image=5)
    assert story.process is process
    assert process.image == 5


def test_an_exec_out_of_the_name_ends_what_it_was(story):
    process = story.attach()
    process.heap.add(allocations())
    assert process.heap.snapshot(0).live_blocks == BLOCKS
    story.execs("ls", time.monotonic_ns())
    assert story.lifecycle.ending == [process]
    assert process.facts.comm == "sh"
    assert process.facts.exe == "/bin/sh"
    assert process.facts.exited
    assert process.heap.snapshot(0).live_blocks == 0
    assert "its memory with it" in story.tracees.gap(process)


def test_who_is_renamed_while_its_end_is_on_the_way_is_attached_anew(story):
    first = story.attach()
    first.heap.add(allocations())
    story.tracer.images.clear()  # by an exec into a name that does not match
    at_exec = time.monotonic_ns()
    story.tracees.attach_named(PID, late=True)
    story.execs("other", at_exec)
    assert [p.facts.exited for p in story.ended] == [True]
    assert story.ended == [first]
    assert first.heap.snapshot(0).live_blocks == 0
    assert story.process is not first
    assert story.process.coverage.late
    assert story.lifecycle.ending == []


def test_who_ends_while_it_is_attached_is_no_target(story):
    gone = story.running.pop(PID)
    story.tracees.attach(gone)
    assert story.tracer.images == {}
    assert [p.facts.exited for p in story.ended] == [True]


def test_a_later_process_of_the_pid_stays_a_target(story):
    process = story.attach()
    image = story.tracer.images[PID] = 1  # it has been made a target since
    story.tracees.end_gone([process])
    assert story.tracer.images == {PID: image}


@pytest.mark.parametrize("image", [0, 5])
def test_an_exec_of_a_later_process_whose_birth_went_unseen(story, image):
    """The first one's exit was lost, and the pid was used again."""
    first = story.attach()
    first.heap.add(allocations())
    at = time.monotonic_ns()
    story.execs("sh", at, image, start_ns=LATER_NS)
    assert story.reused == [at]
    assert story.ended == [first]
    assert first.facts.exited
    assert first.heap.snapshot(0).live_blocks == BLOCKS
    if image:
        assert story.process.facts.start_time == processes.start_time(LATER_NS)
    else:
        assert story.process is None


def test_an_exec_after_the_exit_is_of_another_process(story):
    """Their start times may be the same: they are told in hundredths of a second."""
    first = story.attach()
    story.happens(EventType.EXIT, time.monotonic_ns())
    story.execs("sh", time.monotonic_ns(), image=5)
    assert story.ended == [first]
    assert story.process is not first
    assert story.process.image == 5


def test_start_times_do_not_move_with_the_clock(monkeypatch):
    before = processes.start_time(START_NS)
    monkeypatch.setattr(processes.psutil, "boot_time", lambda: 1.0)
    assert processes.start_time(START_NS) == before
    assert not np.isclose(before, 1.0)
