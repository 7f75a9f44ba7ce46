# SPDX-License-Identifier: Apache-2.0
"""Every loss is in some report, whosever it is."""

from __future__ import annotations

import struct
from collections import Counter
from types import SimpleNamespace

import pytest

from kwatch.aggregate.call_stacks import CallStackAccount
from kwatch.kernel import bpf
from kwatch.model.options import WatchOptions
from kwatch.model.process import ProcessFacts
from kwatch.processes.process_table import ProcessTable
from kwatch.programs.tracepoints import TRACEPOINTS
from kwatch.report.reporter import Reporter
from kwatch.session.session import now_ns
from kwatch.session.tracer import Tracer
from kwatch.wire.events import Loss
from kwatch.wire.maps import LossKey

KNOWN, CHILD, LATER = 41, 42, 43


def deliver(tracer):
    """Everything until now is handed on."""
    tracer.stream.delivered_ns = now_ns() + 1


class Losses(dict):
    """The map of the BPF programs."""

    def count(self, pid, cause, times=1):
        key = bytes(LossKey(pid, cause))
        (before,) = struct.unpack("Q", self.get(key, bytes(8)))
        self[key] = struct.pack("Q", before + times)

    def delete(self, key):
        self.pop(key, None)


@pytest.fixture
def losses():
    return Losses()


@pytest.fixture
def tracer(monkeypatch, losses):
    monkeypatch.setattr(bpf, "recursion_misses", lambda fd: 0)
    made = object.__new__(Tracer)
    programs = dict.fromkeys(TRACEPOINTS, 0)
    made.programs = SimpleNamespace(maps={"losses": losses}, programs=programs)
    monkeypatch.setattr(made, "calls_in_progress", lambda: ())
    made.stream = SimpleNamespace(lost_control_records=0, undelivered=Counter(), delivered_ns=0)
    made._forgotten_control, made._nobodys = 0, Counter()
    made._counts_on_mappings = True
    return made


@pytest.fixture
def process_table():
    made = ProcessTable()
    made.add(ProcessFacts(KNOWN, 1.0, "known", "/known"), heap=False)
    return made


@pytest.fixture
def reporter(tracer, process_table):
    options = WatchOptions(heap=False, heap_stacks=False, syscalls=False)
    session = SimpleNamespace(
        options=options,
        process_table=process_table,
        call_stacks=CallStackAccount(),
        unknown_events=0,
    )
    return Reporter(session, tracer)


def lost(reporter, process_table, pid=KNOWN):
    reporter.refresh()
    return told(reporter, process_table, pid)


def told(reporter, process_table, pid=KNOWN):
    """With what was read last."""
    return reporter.draft(process_table.get(pid), "snapshot", now_ns()).snapshot.lost.by_cause


def test_a_fork_that_was_lost_is_in_every_report(reporter, process_table, losses):
    losses.count(CHILD, Loss.CONTROL_RING_FULL, 2)
    assert lost(reporter, process_table) == {"control_ring_full": 2}
    assert reporter.lost_control


def test_a_process_that_becomes_known_has_its_losses_alone(reporter, process_table, losses):
    """What tells of it, such as its fork, may still be on its way."""
    losses.count(CHILD, Loss.HEAP_RING_FULL, 3)
    assert lost(reporter, process_table) == {}
    process_table.add(ProcessFacts(CHILD, 2.0, "child", "/child"), heap=False)
    assert lost(reporter, process_table, CHILD) == {"heap_ring_full": 3}
    assert lost(reporter, process_table) == {}


def test_a_process_that_nothing_tells_of_any_more(reporter, process_table, losses, tracer):
    losses.count(CHILD, Loss.HEAP_RING_FULL, 3)
    reporter.refresh()
    deliver(tracer)
    assert lost(reporter, process_table) == {"heap_ring_full": 3}
    losses.count(LATER, Loss.HEAP_RING_FULL, 4)
    reporter.finish()
    assert lost(reporter, process_table) == {"heap_ring_full": 7}


def test_a_later_process_of_the_pid_is_not_the_only_one_blamed(
    reporter, process_table, losses, tracer
):
    """Nor do its own losses, or its end, take away what was lost before."""
    losses.count(CHILD, Loss.CONTROL_RING_FULL)
    assert lost(reporter, process_table) == {"control_ring_full": 1}
    deliver(tracer)
    reporter.refresh()
    assert not losses
    child = process_table.add(ProcessFacts(CHILD, 2.0, "child", "/child"), heap=False)
    losses.count(CHILD, Loss.HEAP_RING_FULL)
    assert lost(reporter, process_table, CHILD) == {"control_ring_full": 1, "heap_ring_full": 1}
    tracer.forget_losses(CHILD)
    process_table.remove(child)
    assert lost(reporter, process_table) == {"control_ring_full": 1}


def test_what_is_hidden_at_the_end_is_lost(reporter, process_table, tracer):
    tracer.stream.undelivered[Loss.HEAP_RING_FULL] = 5
    assert lost(reporter, process_table) == {"heap_ring_full": 5}


def test_records_of_the_kernel_are_told_from_those_of_forks(
    reporter, process_table, losses, tracer
):
    """What is nobody's counts as a record of ours."""
    losses.count(CHILD, Loss.CONTROL_RING_FULL, 4)
    tracer.stream.lost_control_records = 5
    for _ in range(3):
        found = lost(reporter, process_table)
        assert found == {"control_ring_full": 4, "mapping_record_lost": 1}
        deliver(tracer)


def test_records_that_tell_no_more_than_a_path_are_no_loss(reporter, process_table, losses, tracer):
    """As with --follow and neither heap nor stacks."""
    tracer._counts_on_mappings = False
    losses.count(CHILD, Loss.CONTROL_RING_FULL, 4)
    tracer.stream.lost_control_records = 5
    assert lost(reporter, process_table) == {"control_ring_full": 4}


def test_a_later_process_of_the_pid_has_not_its_losses(reporter, process_table, losses, tracer):
    """Even if all losses were read a moment ago."""
    losses.count(KNOWN, Loss.HEAP_RING_FULL, 5)
    assert lost(reporter, process_table) == {"heap_ring_full": 5}
    reporter._next_refresh = float("inf")
    reporter.refresh_of(KNOWN)
    assert told(reporter, process_table) == {"heap_ring_full": 5}
    tracer.forget_losses(KNOWN)
    process_table.remove(process_table.get(KNOWN))
    process_table.add(ProcessFacts(KNOWN, 2.0, "later", "/later"), heap=False)
    reporter.refresh_of(KNOWN)
    assert told(reporter, process_table) == {}
