# SPDX-License-Identifier: Apache-2.0
"""More than kwatch can follow is left out and counted; nothing that waits grows without a limit."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from harness.nothing_held import nothing_held
from harness.records import control_record, heap_batch, syscall_record

from kwatch.model.losses import PROCESS_SKIPPED
from kwatch.model.options import ReportOptions, TraceOptions
from kwatch.programs.sources import HEAP, SYSCALLS
from kwatch.report.reporter import Reporter
from kwatch.rings import perf_ring
from kwatch.rings.perf_ring import ControlRecord, CpuPerfRing
from kwatch.rings.stream import Drained
from kwatch.session import ended
from kwatch.session.notices import Notices
from kwatch.session.session import Session
from kwatch.session.short_lived import short_lived
from kwatch.stacks.assembler import stack_of
from kwatch.stacks.pending import PendingStacks
from kwatch.targets import processes
from kwatch.targets.processes import ProcessFacts
from kwatch.wire.events import SYSCALL, EventType

PARENT = 7


def fork(child, time_ns, parent=PARENT):
    return control_record(EventType.FORK, time_ns, tgid=parent, child=child, comm=b"loop")


def exit_of(pid, time_ns, comm=b"loop"):
    return control_record(EventType.EXIT, time_ns, tgid=pid, comm=comm)


def test_a_short_life_is_a_fork_and_then_an_exit():
    records = [
        *(exit_of(1, 10), fork(1, 11)),  # the pid of a process that has just ended
        *(fork(2, 12), exit_of(2, 13, b"renamed")),
        *(fork(3, 14), exit_of(3, 15), fork(3, 16)),  # reused
        fork(4, 17),  # goes on
        exit_of(5, 18),  # began before
    ]
    assert short_lived(records) == {2: "renamed"}


@pytest.fixture
def session(monkeypatch):
    """A system-wide session with no process in /proc."""
    stream = SimpleNamespace(
        look_ahead=list,
        read_stacks=lambda before: [],
        has_room=lambda: True,
        lost_control_records=0,
        delivered_ns=0,
    )
    tracer = SimpleNamespace(
        stream=stream,
        held=nothing_held(),
        attacher=SimpleNamespace(
            detach=lambda pid: None, reads_all_registers=True, spares_returns=True
        ),
        losses=SimpleNamespace(read=dict, forget=lambda pid: None, of=lambda pid: {}),
        targets=SimpleNamespace(own=set(), mm_id=lambda pid: 0, remove=lambda pid, mm_id: False),
    )
    monkeypatch.setattr(processes, "facts", lambda pid: None)
    options = TraceOptions(heap_stacks=False)
    made = Session(options, tracer, Notices(lambda line: None), lambda process: None)
    made.reporter = Reporter(made, tracer, ReportOptions())
    return made


def crowded(*control, pids=()):
    """A batch with one system call and two heap events of each pid."""
    calls = [syscall_record(type=EventType.SYSCALL, tgid=pid, time_ns=50) for pid in pids]
    frees = [{"type": EventType.FREE, "address": 64, "tgid": pid} for pid in pids for _ in range(2)]
    unordered = {SYSCALLS: [np.array(calls, SYSCALL)]}
    return Drained(list(control), [], {HEAP: heap_batch(frees)}, unordered, is_crowded=True)


def test_what_is_left_out_is_counted_by_name(session):
    lives = [record for pid in (20, 21, 22) for record in (fork(pid, pid), exit_of(pid, pid + 10))]
    session.apply(crowded(*lives, pids=(20, 21, 22)))
    (name,) = session.reporter.ended().names
    assert (name.comm, name.processes, name.skipped, name.syscalls.calls) == ("loop", 3, 3, 3)
    session.losses.refresh()
    assert session.losses.of(PARENT).by_cause == {PROCESS_SKIPPED: 6}
    session.apply(crowded(pids=(20,)))  # its last event; what comes later has no owner
    assert session.reporter.ended().names[0].syscalls.calls == 4
    assert session.unknown_events == 2


def test_a_known_process_is_not_left_out(session):
    """The exit of an earlier process with its pid was lost."""
    session.tracees.register(ProcessFacts(20, 1.0, "earlier", ""))
    session.apply(crowded(fork(20, 5), exit_of(20, 6), pids=(20,)))
    assert {one.comm: one.skipped for one in session.ended} == {"earlier": 0, "loop": 0}


def test_ended_processes_add_up_by_name(session, monkeypatch):
    """Rare names make room for a loop that begins later."""
    monkeypatch.setattr(ended, "_MAX_NAMES", 4)
    for number, comm in enumerate([b"a", b"b", b"a", b"c", b"c", b"d", *[b"loop"] * 5]):
        pid = 30 + number
        batch = crowded(fork(pid, 5), exit_of(pid, 6, comm), pids=(pid,))
        batch.is_crowded = False
        session.apply(batch)
    found = session.reporter.ended()
    rows = {one.comm: (one.processes, one.syscalls.calls) for one in found.names}
    assert rows == {"a": (2, 2), "c": (2, 2), "loop": (5, 5), ended.OTHER_NAMES: (2, 2)}


def stack_record(time_ns, identity):
    fields = {"tgid": PARENT, "stack": identity}
    return control_record(EventType.STACK, time_ns, **fields)


def test_stacks_for_which_no_time_is_left_are_dropped():
    records = [stack_record(time_ns, 100 + time_ns) for time_ns in range(4)]
    read, dropped = [], []
    queue = PendingStacks(lambda before: records, read.append, dropped.append)
    queue.limit(0)
    queue.read_before(5)
    assert not read
    assert not dropped  # they stay in their ring until the code may have changed
    queue.limit(math.inf)
    queue.add(records)
    queue.add([stack_record(time_ns, 100 + time_ns) for time_ns in (7, 8)])
    queue.read_some(math.inf)
    assert [stack_of(data) for data in dropped] == [(PARENT, 100 + n) for n in range(4)]
    assert [stack_of(data) for data in read] == [(PARENT, 107), (PARENT, 108)]


@pytest.mark.parametrize(("has_room", "read_ones"), [(True, 4), (False, 0)])
def test_stacks_may_take_longer_while_the_rings_have_room(has_room, read_ones):
    read, dropped = [], []
    queue = PendingStacks(lambda before: [], read.append, dropped.append, lambda: has_room)
    queue.add([stack_record(time_ns, 100 + time_ns) for time_ns in range(4)])
    queue.limit(0, 60)
    queue.read_before(5)
    assert (len(read), len(dropped)) == (read_ones, 4 - read_ones)


def test_a_ring_is_read_in_parts_of_whole_records():
    size, lengths = 4096, [16, 48, 24, 512, 16] * 5
    made = object.__new__(CpuPerfRing)
    made._size, made._data = size, np.zeros(size, np.uint8)
    made._control = np.zeros(4096 // 8, np.uint64)
    head = tail = size - 40  # the second record wraps
    for number, length in enumerate(lengths):
        record = struct.pack("IHH", number, 0, length).ljust(length, b"\0")
        for at, byte in enumerate(record):
            made._data[(head + at) % size] = byte
        head += length
    made._control[perf_ring._DATA_HEAD], made._control[perf_ring._DATA_TAIL] = head, tail
    parts = []
    while not parts or not made.is_empty:
        parts.append(made.drain(600).tobytes())
    assert max(map(len, parts)) < 600 + 512
    whole = b"".join(parts)
    starts = np.cumsum([0, *lengths[:-1]])
    assert [struct.unpack_from("I", whole, at)[0] for at in starts] == [*range(len(lengths))]
    assert made.drain() is None


def test_late_stacks_stay_in_their_ring(with_late_stacks):
    """Each is a copy of up to four kilobytes of memory."""
    stream, ring = with_late_stacks
    for _ in range(100):
        assert stream.read_stacks(0) == []
    assert len(stream._late_stacks) <= 2 * ring.at_once
    assert stream.read_stacks(math.inf)[0].time_ns == 1


@pytest.fixture
def with_late_stacks(monkeypatch):
    """A stream without other rings, and a ring of stacks that is never empty."""
    from kwatch.rings import stream as module

    ring = SimpleNamespace(at_once=10, is_empty=False, drained=0)

    def drain(most):
        ring.drained += 1
        return [[ControlRecord(ring.drained, b"")] * ring.at_once]

    ring.drain = drain
    monkeypatch.setattr(module, "control_records", lambda data: data)
    monkeypatch.setattr(module, "_MAX_STACKS_WAITING", ring.at_once)
    made = object.__new__(module.Stream)
    made._stacks, made._late_stacks = ring, []
    return made, ring
