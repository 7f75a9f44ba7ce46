# SPDX-License-Identifier: Apache-2.0
"""Sums of system calls: the kernel's histogram is Python's, and what is added is read once."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from harness import c_headers
from harness.records import control_record, syscall_record

from kwatch.aggregate import SyscallAccount
from kwatch.aggregate.call_sums import CALL_SUM, SummedCalls
from kwatch.aggregate.histogram import RANGE, bucket_of
from kwatch.rings import call_sums
from kwatch.rings.call_sums import CallSumTables
from kwatch.wire.events import SYSCALL, EventType
from kwatch.wire.maps import SUM_IN_USE, SUM_RANGE_SHIFT, SUM_RETIRED, CallSums, CallSumState

PID, OTHER = 77, 78
READ, WRITE = 0, 1 << 8


@pytest.fixture(scope="module")
def kernel_bucket_of(tmp_path_factory):
    """The function of bpf/histogram.h, built for this machine."""
    folder = tmp_path_factory.mktemp("histogram")
    source, library = folder / "histogram.c", folder / "histogram.so"
    source.write_text(
        "#include <linux/types.h>\n"
        "#define __always_inline inline __attribute__((always_inline))\n"
        '#include "histogram.h"\n'
        "void buckets(const __u64 *durations, __u32 *found, long count)\n"
        "{ while (count--) *found++ = bucket_of(*durations++); }\n"
    )
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas", "-I", c_headers.BPF]
    subprocess.run([*command, "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library))

    def buckets(durations):
        found = np.zeros(len(durations), np.uint32)
        pointers = durations.ctypes.data, found.ctypes.data
        loaded.buckets(*map(ctypes.c_void_p, pointers), ctypes.c_long(len(durations)))
        return found

    return buckets


def test_the_kernel_has_the_same_buckets(kernel_bucket_of):
    """Python rounds long durations to 24 bits, some of them into the next bucket."""
    steps = np.arange(16, 33, dtype=np.uint64)
    edges = np.concatenate([steps << np.uint64(shift) for shift in range(44)])
    near = np.concatenate([edges + np.uint64(k) for k in range(40)])
    below = np.concatenate([edges - np.uint64(k) for k in range(1, 16)])
    halves = np.concatenate([edges - (edges >> np.uint64(k)) for k in range(20, 30)])
    spread = np.random.default_rng(5).integers(0, 2**64, 200_000, np.uint64)
    spread >>= np.random.default_rng(6).integers(0, 64, 200_000, np.uint64)
    few = np.arange(70_000, dtype=np.uint64)
    for durations in (edges, near, below, halves, halves + np.uint64(1), spread, few):
        assert (kernel_bucket_of(durations) == bucket_of(durations)).all()
    longest = np.array([2**44 - 1, 2**44, 2**64 - 1], np.uint64)
    assert (kernel_bucket_of(longest) == bucket_of(longest)).all()


def summed(records):
    """What the kernel would have made of these calls, in two readings."""
    rows = {}
    for number, record in enumerate(records):
        bucket = int(bucket_of(record["duration_ns"][np.newaxis])[0])
        call = int(record["nr"]) << 8 | int(record["abi"])
        key = (int(record["tgid"]), call, bucket // RANGE, number % 2)
        row = rows.setdefault(key, np.zeros((), CALL_SUM))
        row["tgid"], row["call"], row["range"] = key[:3]
        row["calls"] += 1
        row["errors"] += np.int64(record["result"]) < 0
        row["total_ns"] += record["duration_ns"]
        row["max_ns"] = max(row["max_ns"], record["duration_ns"])
        row["buckets"][bucket % RANGE] += 1
    return np.array(list(rows.values()), CALL_SUM)


def test_sums_and_events_make_the_same_summary():
    random = np.random.default_rng(3)
    records = np.array(
        [
            syscall_record(
                type=EventType.SYSCALL,
                nr=int(random.integers(0, 5)),
                duration_ns=int(random.lognormal(9, 3)),
                result=int(random.integers(-2, 3)),
                tgid=PID,
            )
            for _ in range(3000)
        ],
        SYSCALL,
    )
    one, other = SyscallAccount(), SyscallAccount()
    one.add(records, np.full(len(records), 4))
    rows = summed(records)
    SummedCalls(other).add(rows, np.full(len(rows), 4))
    assert one.summary(4, lambda abi, nr: f"{abi}:{nr}") == other.summary(
        4, lambda abi, nr: f"{abi}:{nr}"
    )


class Kernel:
    """The tables of two CPUs, as BPF programs see them."""

    def __init__(self, tables):
        size = -(-ctypes.sizeof(CallSums) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = [mmap.mmap(fd, size) for fd in tables]
        self.tables = [CallSums.from_buffer(each) for each in self._memory]

    def add(self, place, pid, call, calls=1, begun=1, cpu=0, serial=9):
        key, one = self.tables[cpu].keys[place], self.tables[cpu].sums[place]
        if not key.process:
            key.process, one.time_ns = serial << 32 | pid, begun
            key.call = SUM_IN_USE | 2 << SUM_RANGE_SHIFT | call
        assert key.process & 0xFFFFFFFF == pid
        one.buckets[3] += calls
        one.total_ns += 10 * calls
        one.max_ns = max(one.max_ns, 10)

    def is_free(self, place, cpu=0):
        key, one = self.tables[cpu].keys[place], self.tables[cpu].sums[place]
        return not (key.process or key.call or any(bytes(one)))


@pytest.fixture
def made(monkeypatch):
    """The reader's side, the kernel's, and their state."""
    tables, clock = [], SimpleNamespace(now=0.0)

    def create_map(name, shape):
        tables.append(os.memfd_create(name))
        os.truncate(tables[-1], 1 << 20)
        return tables[-1]

    monkeypatch.setattr(call_sums, "online_cpus", lambda: [0, 1])
    monkeypatch.setattr(call_sums.bpf, "create_map", create_map)
    monkeypatch.setattr(call_sums.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(call_sums, "GracePeriods", Periods)
    state = os.memfd_create("state")
    os.truncate(state, mmap.PAGESIZE)
    outer = SimpleNamespace(set=lambda *_: None, unpreempted=False)
    reader = CallSumTables(outer, SimpleNamespace(fd=state))
    shared = CallSumState.from_buffer(mmap.mmap(state, mmap.PAGESIZE))
    yield SimpleNamespace(reader=reader, kernel=Kernel(tables), clock=clock, state=shared)
    reader.close()


class Periods:
    """Grace periods that are over at once."""

    def __init__(self, unpreempted):
        pass

    def begin(self):
        return SimpleNamespace(done=lambda: True, result=lambda: None)

    def close(self):
        pass


def calls_of(batch):
    return [(int(row["tgid"]), int(row["call"]), int(row["calls"])) for row in batch]


def exit_of(pid, at):
    return control_record(EventType.EXIT, at, tgid=pid)


def test_what_is_added_is_read_once(made):
    made.kernel.add(5, PID, READ, 7)
    made.kernel.add(9, PID, WRITE, 2, begun=3, cpu=1)
    first = made.reader.read(100)
    assert calls_of(first) == [(PID, READ, 7), (PID, WRITE, 2)]
    assert (first["range"] == 2).all()
    assert first["total_ns"].tolist() == [70, 20]
    assert first["buckets"][0].tolist() == [0, 0, 0, 7] + [0] * (RANGE - 4)
    made.kernel.add(5, PID, READ, 4)
    assert calls_of(made.reader.read(100)) == [(PID, READ, 4)]
    assert len(made.reader.read(100)) == 0


def test_sums_that_begin_later_come_with_a_later_batch(made):
    made.kernel.add(5, PID, READ, 7, begun=100)
    assert len(made.reader.read(100)) == 0
    assert made.reader.left == 7
    assert calls_of(made.reader.read(101)) == [(PID, READ, 7)]
    assert made.reader.left == 0


def test_an_exit_hands_on_the_sums_of_its_process_alone(made):
    made.kernel.add(5, PID, READ, 7)
    made.kernel.add(6, OTHER, READ, 8)
    assert calls_of(made.reader.read(100, [exit_of(PID, 50)], whole=False)) == [(PID, READ, 7)]
    made.reader.read(100, whole=False)
    assert made.kernel.is_free(5)
    assert calls_of(made.reader.read(100)) == [(OTHER, READ, 8)]
    assert not made.kernel.is_free(6)


def test_a_process_that_reuses_the_pid_keeps_its_sums(made):
    made.kernel.add(5, PID, READ, 7, begun=10)
    made.kernel.add(6, PID, READ, 8, begun=60, serial=10)
    found = made.reader.read(100, [exit_of(PID, 50)], whole=False)
    assert calls_of(found) == [(PID, READ, 7), (PID, READ, 8)]
    assert found["time_ns"].tolist() == [10, 60]
    made.reader.read(100)
    assert made.kernel.is_free(5)
    made.kernel.add(6, PID, READ, 1)
    assert calls_of(made.reader.read(100)) == [(PID, READ, 1)]


def test_a_fork_ends_an_earlier_process_with_the_pid(made):
    """Its exit was lost."""
    made.kernel.add(5, PID, READ, 7, begun=10)
    fork = control_record(EventType.FORK, 50, tgid=OTHER, child=PID)
    assert calls_of(made.reader.read(100, [fork], whole=False)) == [(PID, READ, 7)]
    made.reader.read(100, whole=False)
    assert made.kernel.is_free(5)


@pytest.mark.parametrize("matched", [0, 1])
def test_an_exec_ends_a_target_if_the_program_does_not_match(made, matched):
    made.kernel.add(5, PID, READ, 7)
    execed = control_record(EventType.EXEC, 50, tgid=PID, matched=matched)
    assert calls_of(made.reader.read(100, [execed], whole=False)) == [(PID, READ, 7)]
    made.reader.read(100, whole=False)
    assert made.kernel.is_free(5) == (not matched)


def next_window(made):
    made.clock.now += 1.5
    return made.reader.read(100)


def test_without_need_idle_sums_stay(made):
    made.kernel.add(5, PID, READ, 7)
    for _ in range(5):
        next_window(made)
    assert not made.kernel.is_free(5)
    assert made.state.window == 5


def test_idle_sums_make_room(made):
    made.kernel.add(5, PID, READ, 7)
    made.kernel.add(6, PID, WRITE, 1)
    next_window(made)
    made.state.is_full = 1
    made.kernel.add(6, PID, WRITE, 1)
    next_window(made)
    assert not made.state.is_full
    assert made.kernel.tables[0].keys[5].call & SUM_RETIRED
    made.kernel.add(5, PID, READ, 3)  # by a program that had found it before
    found = [calls_of(next_window(made)) for _ in range(3)]
    assert found == [[(PID, READ, 3)], [], []]
    assert made.kernel.is_free(5)
    assert not made.kernel.is_free(6)
    made.kernel.add(5, OTHER, WRITE, 2)
    assert calls_of(next_window(made)) == [(OTHER, WRITE, 2)]


def test_the_end_of_a_process_leaves_its_retired_sums_to_the_grace_period(made):
    made.kernel.add(5, PID, READ, 7)
    next_window(made)
    made.state.is_full = 1
    next_window(made)
    made.reader.read(100, [exit_of(PID, 50)], whole=False)
    made.reader.read(100, whole=False)
    assert made.kernel.tables[0].keys[5].process
    for _ in range(3):
        next_window(made)
    assert made.kernel.is_free(5)
