# SPDX-License-Identifier: Apache-2.0
"""Decodes raw ring contents to events, for the data rings and the control ring."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.kernel.joined_mapping import JoinedMapping
from kwatch.model.options import TraceOptions
from kwatch.programs.sources import SYSCALLS
from kwatch.rings import data_rings, stream
from kwatch.rings.bpf_ring import CpuBpfRing
from kwatch.rings.mapped_ring import CpuMappedRing
from kwatch.rings.perf_ring import ControlRecord, MappingRecord, NameRecord, control_records
from kwatch.stacks import pending
from kwatch.stacks.pending import PendingStacks
from kwatch.wire import events
from kwatch.wire.events import EventType, Loss
from kwatch.wire.maps import RingPosition

PAGE = mmap.PAGESIZE
BUSY = 1 << 31
RECORD = events.SYSCALL.itemsize + 8
RECORDS = PAGE // RECORD  # in a ring of one page


class Writer:
    """Writes into a ring's memory as the kernel does."""

    def __init__(self, fd=-1):
        self.reader = mmap.mmap(-1, PAGE)
        self.writer = mmap.mmap(-1, 3 * PAGE)
        self.ring = CpuBpfRing(fd, self.reader, self.writer, events.SYSCALL)
        self.position = 0

    def write(self, time_ns, busy=False):
        """Returns the offset of the header, for `finish`."""
        event = np.zeros(1, events.SYSCALL)
        event["time_ns"] = time_ns
        at = self.position
        flags = BUSY if busy else 0
        self._put(at, struct.pack("II", flags | len(event.tobytes()), 0) + event.tobytes())
        self.position += RECORD
        self.writer[:8] = struct.pack("Q", self.position)
        return at

    def finish(self, at):
        self._put(at, struct.pack("I", events.SYSCALL.itemsize))

    def _put(self, at, data):
        """Each byte of the data is mapped twice."""
        for number, byte in enumerate(data):
            place = (at + number) % PAGE
            self.writer[PAGE + place] = self.writer[2 * PAGE + place] = byte


class MappedWriter:
    """Writes into a mapped ring as bpf/mapped_rings.h does, here of heap events."""

    records = PAGE // 8

    def __init__(self):
        size = self.records * events.HEAP.itemsize
        fd = os.memfd_create("ring")
        os.truncate(fd, size)
        self.memory = np.frombuffer(mmap.mmap(fd, size), events.HEAP)
        before = self.records * 0xFFFFFFFE  # the number of the lap soon begins again
        self.position = RingPosition(head=before, tail=before)
        self.ring = CpuMappedRing(fd, JoinedMapping([fd, fd], size), self.position, events.HEAP)

    def write(self, time_ns, busy=False):
        """Returns the number of the event, for `finish`."""
        number = self.position.head
        self.position.head += 1
        self.memory["time_ns"][number & self.position.mask] = time_ns
        if not busy:
            self.finish(number)
        return number

    def finish(self, number):
        lap = (number >> self.position.shift) + 1
        self.memory["lap"][number & self.position.mask] = lap & 0xFFFFFFFF


def read(ring):
    found, whole = ring.events()
    times = found["time_ns"].tolist()
    ring.release(len(times))
    return times, whole


@pytest.mark.parametrize(
    ("kind", "room"), [(Writer, RECORDS), (MappedWriter, MappedWriter.records)]
)
@given(data=st.data())
def test_events_come_once_and_in_order(kind, room, data):
    writer, number = kind(), itertools.count(1)
    for burst in data.draw(st.lists(st.integers(0, room), max_size=12)):
        expected = [next(number) for _ in range(burst)]
        for time_ns in expected:
            writer.write(time_ns)
        assert read(writer.ring) == (expected, True)
    assert read(writer.ring) == ([], True)


@pytest.mark.parametrize("kind", [Writer, MappedWriter])
def test_a_record_that_is_being_written_hides_those_behind_it(kind):
    writer = kind()
    writer.write(1)
    busy = writer.write(2, busy=True)
    writer.write(3)
    assert read(writer.ring) == ([1], False)
    assert read(writer.ring) == ([], False)
    writer.finish(busy)
    assert read(writer.ring) == ([2, 3], True)


@pytest.fixture
def two_cpus(monkeypatch):
    """A stream of system calls from two rings, and the writers of these rings."""
    writers = [Writer(os.eventfd(0)), Writer(os.eventfd(0))]  # can be polled, and closed
    rings = iter([writer.ring for writer in writers])
    control = SimpleNamespace(descriptors=[], drain=list, close=lambda: None)
    monkeypatch.setattr(data_rings, "online_cpus", lambda: [0, 1])
    monkeypatch.setattr(CpuBpfRing, "create", lambda size, event: next(rings))
    monkeypatch.setattr(stream, "PerfRings", lambda *arguments, **named: control)
    monkeypatch.setattr(stream, "_PATIENCE_NS", 1_000_000)
    names = dict.fromkeys(["control_ring", "syscall_rings"], SimpleNamespace(set=lambda *_: None))
    programs = SimpleNamespace(maps=names)
    made = stream.Stream(programs, TraceOptions(pids=(1,), heap=False, heap_stacks=False))
    yield made, *writers
    made.close()


def delivered(made):
    """The times of the events that the stream delivers at its end."""
    times = []
    made.deliver_rest(
        lambda batch: times.extend(t for b in batch.unordered[SYSCALLS] for t in b["time_ns"])
    )
    return sorted(times)


def test_what_is_hidden_to_the_end_is_counted(two_cpus):
    """An unfinished record hides those behind it; events of the other ring are delivered."""
    made, first, second = two_cpus
    now = time.monotonic_ns()
    first.write(now)
    first.write(now + 2, busy=True)
    for later in (4, 5, 6):
        first.write(now + later)
    second.write(now + 1)
    second.write(now + 7)
    assert delivered(made) == [now, now + 1, now + 7]
    assert +made.undelivered == {Loss.SYSCALL_RING_FULL: 4}


def test_a_whole_ring_loses_nothing_at_the_end(two_cpus):
    made, first, second = two_cpus
    now = time.monotonic_ns()
    first.write(now + 1)
    second.write(now)
    assert delivered(made) == [now, now + 1]
    assert not +made.undelivered


def test_many_control_records_come_in_slices(two_cpus, monkeypatch):
    """kwatch can handle a signal between slices; events and control records stay in order."""
    monkeypatch.setattr(stream, "_AT_ONCE", 10)
    made, first, _ = two_cpus
    start = time.monotonic_ns() - 1000
    made._late_control = [NameRecord(start + i, 1, 1, "", False) for i in range(35)]
    for at in (5, 25, 40):
        first.write(start + at)
    seen = []

    def apply(drained):
        calls = [int(t) - start for batch in drained.unordered[SYSCALLS] for t in batch["time_ns"]]
        seen.append((len(drained.control), calls))

    made.deliver_rest(apply)
    assert seen == [(10, [5]), (10, []), (10, [25]), (5, [40])]
    assert not +made.undelivered


def test_control_records_that_nobody_waits_for_are_lost(two_cpus, monkeypatch):
    """Those still in their ring are lost too, because too many are waiting."""
    monkeypatch.setattr(stream, "_AT_ONCE", 10)
    monkeypatch.setattr(stream, "_MAX_WAITING", 20)
    made, first, _ = two_cpus
    now = time.monotonic_ns()
    made._late_control = [NameRecord(now - 100 + i, 1, 1, "", False) for i in range(35)]
    monkeypatch.setattr(made._control, "drain", lambda: [b"a ring"])
    monkeypatch.setattr(
        stream, "control_records", lambda ring: [NameRecord(now - 50, 1, 1, "", False)] * 7
    )
    first.write(now - 40)
    made.deliver_rest(lambda drained: None, is_wanted=lambda: False)
    assert +made.undelivered == {Loss.CONTROL_RING_FULL: 25 + 7, Loss.SYSCALL_RING_FULL: 1}


@pytest.fixture
def with_stacks(two_cpus, monkeypatch):
    """with_stacks(STACKS, CONTROL) returns a stream whose rings hold records of these times."""

    def once(kind, times):
        records = [ControlRecord(time_ns, bytes([kind])) for time_ns in times]
        return SimpleNamespace(
            drain=lambda most=0: [[records.pop(0) for _ in range(len(records))]],
            is_empty=True,
            close=lambda: None,
        )

    def fill(stacks, control=()):
        made, *_ = two_cpus
        made._stacks, made._control = once(EventType.STACK, stacks), once(EventType.EXIT, control)
        return made

    monkeypatch.setattr(stream, "control_records", lambda ring: ring)
    return fill


def test_each_end_of_a_batch_finds_the_stacks_from_before_it(with_stacks, monkeypatch):
    """This holds when too many stacks wait, and when an earlier read has emptied the ring."""
    monkeypatch.setattr(pending, "MAX_WAITING", 1)
    made, seen = with_stacks([10, 20, 30, 40, 50]), []
    queue = PendingStacks(made.read_stacks, seen.append, drop=seen.append)
    queue.add([ControlRecord(5, b"")])
    queue.read_some(0)
    assert not queue.has_room
    for end, known in ((15, 2), (45, 5), (46, 5), (math.inf, 6)):
        queue.read_before(end)
        assert len(seen) == known


def test_stacks_that_wait_hold_up_no_exit(with_stacks, monkeypatch):
    monkeypatch.setattr(stream, "_MAX_WAITING", 20)
    made = with_stacks(range(100, 200), control=[50])
    assert made.read_stacks(60) == []
    batches = []
    made._deliver(batches.append, 150)
    (batch,) = batches
    assert [record.time_ns for record in batch.control] == [50]
    assert [record.time_ns for record in batch.stacks] == [*range(100, 150)]


def test_views_that_an_exception_has_kept_do_not_hinder_the_close():
    fd = os.open(os.devnull, os.O_RDONLY)
    memory = mmap.mmap(-1, PAGE), mmap.mmap(-1, 3 * PAGE)
    ring = CpuBpfRing(fd, *memory, events.SYSCALL)
    kept, _ = ring.events()
    ring.close()
    assert len(kept) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_control_ring_carries_mappings_and_names():
    path = b"/usr/lib/with space.so\0\0"
    body = struct.pack("IIQQQIIQQII", 41, 42, 0x1000, 0x2000, 0x3000, 8, 1, 99, 0, 5, 0)
    mapping = body + path + struct.pack("Q", 1234)
    mapping = struct.pack("IHH", 10, 0, 8 + len(mapping)) + mapping
    name = struct.pack("II", 41, 42) + b"nginx\0\0\0" + struct.pack("Q", 1235)
    name = struct.pack("IHH", 3, 1 << 13, 8 + len(name)) + name
    found = list(control_records(np.frombuffer(mapping + name, np.uint8)))
    assert found == [
        MappingRecord(1234, 41, 0x1000, 0x3000, 0x3000, (8, 1), 99, "/usr/lib/with space.so"),
        NameRecord(1235, 41, 42, "nginx", True),
    ]
