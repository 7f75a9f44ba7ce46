# SPDX-License-Identifier: Apache-2.0
"""What control records make of the traced processes, told as stories of pid 7 and its like."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from harness.records import control_record, heap_batch, typed

from kwatch.errors import KwatchError
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.rings.perf_ring import MappingRecord, NameRecord
from kwatch.session import tracees as module
from kwatch.session.attaching import Attaching
from kwatch.session.lifecycle import Lifecycle
from kwatch.session.notices import Notices
from kwatch.session.tracees import Tracees
from kwatch.targets import processes
from kwatch.wire.events import EventType
from kwatch.wire.maps import Target

PID = 7
START_NS = 5_000_000_000
LATER_NS = START_NS + 20_000_000
BLOCKS = 3


class Targets:
    """Stands for the tracer, and for the BPF programs' map of targets."""

    def __init__(self):
        self.mm_ids = {}
        self.targets = self
        self.own: set[int] = set()
        self.attacher = SimpleNamespace(detach=lambda pid: None)
        self.losses = SimpleNamespace(forget=lambda pid: None)

    def add(self, pid, flags):
        self.mm_ids[pid] = 1000 + len(self.mm_ids)
        return Target(self.mm_ids[pid], flags)

    def mm_id(self, pid):
        return self.mm_ids.get(pid, 0)

    def __contains__(self, pid):
        return pid in self.mm_ids

    def remove(self, pid, mm_id):
        return self.mm_ids.get(pid) == mm_id and self.mm_ids.pop(pid) == mm_id


class Story:
    """`running` are the processes of /proc, `ended` those that were reported."""

    def __init__(self, monkeypatch, **options):
        self.running = {PID: facts("sh")}
        self.ended = []
        self.reused = []
        self.tracer = Targets()
        options = TraceOptions(**{"comms": ("sh",), "heap_stacks": False, **options})
        notices = Notices(lambda line: None)
        self.tracees = Tracees(options, self.tracer, None, notices, self.ended.append)
        self.attaching = Attaching(options, self.tracer, None, self.tracees)
        self.lifecycle = Lifecycle(options, self.tracees, self.reused.append)
        monkeypatch.setattr(module, "read_mappings", lambda pid: [])
        monkeypatch.setattr(processes, "facts", self.running.get)
        monkeypatch.setattr(processes, "name_matches", self.matches)
        monkeypatch.setattr(processes, "exe_of", lambda pid: self.now(pid, "exe"))
        monkeypatch.setattr(processes, "comm_of", lambda pid: self.now(pid, "comm"))

    def now(self, pid, fact):
        return getattr(self.running[pid], fact) if pid in self.running else ""

    def matches(self, pid, names):
        return self.running[pid].comm in names

    @property
    def process(self):
        return self.tracees.process_table.get(PID)

    def attach(self):
        self.attaching.attach(self.running[PID], by_comm=True)
        return self.process

    def renamed_by_exec(self, comm, time_ns):
        self.lifecycle.apply(NameRecord(time_ns, PID, PID, comm, is_exec=True))

    def maps(self, path, time_ns, pid=PID):
        self.lifecycle.apply(MappingRecord(time_ns, pid, 0x1000, 0x2000, 0, (8, 1), 12, path))

    def happens(self, kind, time_ns, **fields):
        fields = {"tgid": PID, "start_ns": START_NS, **fields}
        self.lifecycle.apply(control_record(kind, time_ns, **fields))

    def execs(self, comm, time_ns, mm_id=0, start_ns=START_NS):
        self.renamed_by_exec(comm, time_ns - 1)
        fields = {"old_tid": PID, "start_ns": start_ns, "comm": comm.encode()}
        self.happens(EventType.EXEC, time_ns, matched=bool(mm_id), mm_id=mm_id, **fields)


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
    assert "its memory with it" in story.tracees.gap(process)


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
    """The first one's exit was lost, and the pid was used again."""
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
    """Their start times may be the same: they are told in hundredths of a second."""
    first = story.attach()
    story.happens(EventType.EXIT, time.monotonic_ns())
    story.execs("sh", time.monotonic_ns(), mm_id=5)
    assert story.ended == [first]
    assert story.process is not first
    assert story.process.code.mm_id == 5


def test_start_times_do_not_move_with_the_clock(monkeypatch):
    before = processes.start_time(START_NS)
    monkeypatch.setattr(processes.psutil, "boot_time", lambda: 1.0)
    assert processes.start_time(START_NS) == before
    assert not np.isclose(before, 1.0)


CHILD = 8
LIBC = "/usr/lib/libc.so.6"


class Birth(Story):
    """Of a child whose process is gone by the time one looks; its parent runs /bin/sh."""

    def __init__(self, monkeypatch, **options):
        super().__init__(monkeypatch, comms=(), pids=(PID,), follow=True, **options)
        self.attaching.attach(self.running[PID])
        self.at = time.monotonic_ns()

    def forks(self):
        fields = {"tgid": PID, "child": CHILD, "child_start_ns": LATER_NS, "comm": b"sh"}
        self.lifecycle.apply(control_record(EventType.FORK, self.at, **fields))

    def renamed(self, comm):
        self.lifecycle.apply(NameRecord(self.at + 1, CHILD, CHILD, comm, is_exec=True))

    def mapped(self, *paths):
        for path in paths:
            self.maps(path, self.at + 2, CHILD)

    def execed(self, comm):
        fields = {"old_tid": CHILD, "start_ns": LATER_NS, "comm": comm.encode(), "mm_id": 9}
        record = control_record(EventType.EXEC, self.at + 3, tgid=CHILD, matched=True, **fields)
        self.lifecycle.apply(record)

    def exits(self, comm):
        fields = {"tgid": CHILD, "start_ns": LATER_NS, "comm": comm.encode()}
        self.lifecycle.apply(control_record(EventType.EXIT, self.at + 4, **fields))
        self.tracees.end(self.lifecycle.ending)
        return self.ended[-1].facts


@pytest.fixture(params=[{}, {"heap": False}], ids=["heap", "no heap"])
def birth(monkeypatch, request):
    return Birth(monkeypatch, **request.param)


def test_a_child_without_an_exec_runs_its_parents_program(birth):
    birth.forks()
    birth.mapped(LIBC)
    assert birth.exits("sh").exe == "/bin/sh"


def test_the_program_of_a_child_that_is_gone_is_what_its_exec_mapped_first(birth):
    birth.forks()
    birth.renamed("true")
    birth.mapped("/bin/true", "/lib/ld.so")
    birth.execed("true")
    birth.mapped(LIBC)
    assert birth.exits("true").exe == "/bin/true"


def test_without_the_records_of_an_exec_the_program_is_unknown(birth):
    """As the kernel does not send them where nobody asks for mappings."""
    birth.forks()
    birth.execed("true")
    birth.mapped(LIBC)
    assert birth.exits("true").exe == ""


def test_without_the_programs_own_mapping_it_is_unknown(birth):
    birth.forks()
    birth.lifecycle.has_gaps = True
    birth.renamed("true")
    birth.mapped("/lib/ld.so")
    birth.execed("true")
    birth.mapped(LIBC)
    assert birth.exits("true").exe == ""


def test_an_exec_of_which_nothing_came_is_told_by_the_exit(birth):
    birth.forks()
    birth.lifecycle.has_gaps = True
    facts = birth.exits("true")
    assert (facts.comm, facts.exe) == ("true", "")


def test_a_path_that_the_kernel_could_not_tell_is_none(birth):
    birth.forks()
    birth.renamed("true")
    birth.mapped("//toolong")
    birth.execed("true")
    assert birth.exits("true").exe == ""


def test_proc_has_the_program_of_a_child_that_runs(birth):
    birth.running[CHILD] = ProcessFacts(CHILD, processes.start_time(LATER_NS), "true", "/bin/true")
    birth.forks()
    birth.execed("true")
    assert birth.tracees.process_table.get(CHILD).facts.exe == "/bin/true"


def test_a_child_that_a_stack_made_known_before_its_fork_is_one_process(birth):
    started = processes.start_time(LATER_NS)
    birth.running[CHILD] = ProcessFacts(CHILD, started, "true", "/bin/true")
    birth.tracer.mm_ids[CHILD] = 9
    child = birth.tracees.discover(CHILD)
    birth.forks()
    assert birth.ended == []
    assert birth.tracees.process_table.get(CHILD) is child
    assert child.facts.exe == "/bin/true"
    assert child.forked_ns == birth.at


def test_a_child_of_a_process_that_is_not_known(birth):
    """System-wide: the parent has done nothing so far that is traced."""
    birth.tracees.end([birth.process])
    birth.running[CHILD] = ProcessFacts(CHILD, processes.start_time(LATER_NS), "sh", "/bin/sh")
    birth.forks()
    assert birth.tracees.process_table.get(CHILD).facts.exe == "/bin/sh"


def test_after_losses_a_process_is_what_it_is_now(birth):
    birth.running[PID] = facts("nginx")
    birth.tracer.get = lambda pid: None
    birth.tracees.reread(birth.process)
    assert birth.process.facts == facts("nginx")


def test_the_program_under_a_name_is_what_its_exec_mapped_first(story):
    at, pid = time.monotonic_ns(), CHILD
    story.lifecycle.apply(NameRecord(at, pid, pid, "sh", is_exec=True))
    for path in ("/bin/dash", "/lib/ld.so"):
        story.maps(path, at, pid)
    fields = {"old_tid": pid, "start_ns": LATER_NS, "comm": b"sh", "mm_id": 9, "matched": True}
    story.happens(EventType.EXEC, at + 1, **{"tgid": pid, **fields})
    assert story.tracees.process_table.get(pid).facts.exe == "/bin/dash"
