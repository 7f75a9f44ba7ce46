# SPDX-License-Identifier: Apache-2.0
"""Every loss is in at least one report."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from kwatch.model.losses import LOSS_CAUSES
from kwatch.model.process import ProcessFacts
from kwatch.processes.accounts import Accounts
from kwatch.processes.process_table import ProcessTable
from kwatch.session.losses import LossAccount, LossCounters
from kwatch.session.session import now_ns
from kwatch.wire.events import Loss
from kwatch.wire.maps import LossKey

KNOWN, CHILD, LATER = 41, 42, 43


class Losses(dict):
    """The BPF map of loss counters."""

    def count(self, pid, cause, times=1):
        key = bytes(LossKey(pid, cause))
        (before,) = struct.unpack("Q", self.get(key, bytes(8)))
        self[key] = struct.pack("Q", before + times)

    def delete(self, key):
        self.pop(key, None)


class Stream:
    def __init__(self):
        self.lost_control_records, self.undelivered, self.delivered_ns = 0, Counter(), 0

    def deliver(self):
        """All events up to now have been delivered."""
        self.delivered_ns = now_ns() + 1


@pytest.fixture
def losses():
    return Losses()


@pytest.fixture
def stream():
    return Stream()


@pytest.fixture
def counters(losses, stream):
    return LossCounters(losses, stream, {}, mappings=True)


@pytest.fixture
def process_table():
    made = ProcessTable()
    made.add(ProcessFacts(KNOWN, 1.0, "known", "/known"), Accounts())
    return made


@pytest.fixture
def account(counters, stream, process_table):
    return LossAccount(counters, stream, process_table, lambda: 0)


def lost(account, pid=KNOWN):
    account.refresh()
    return account.of(pid).by_cause


def test_a_fork_that_was_lost_is_in_every_report(account, process_table, losses):
    losses.count(CHILD, Loss.CONTROL_RING_FULL, 2)
    assert lost(account) == {"control_ring_full": 2}
    assert account.may_hide_exit


def test_a_process_that_becomes_known_has_its_losses_alone(account, process_table, losses):
    """Its fork may still be in a ring when the loss is counted."""
    losses.count(CHILD, Loss.HEAP_RING_FULL, 3)
    assert lost(account) == {}
    process_table.add(ProcessFacts(CHILD, 2.0, "child", "/child"), Accounts())
    assert lost(account, CHILD) == {"heap_ring_full": 3}
    assert lost(account) == {}


def test_a_process_that_nothing_tells_of_any_more(account, process_table, losses, stream, counters):
    losses.count(CHILD, Loss.HEAP_RING_FULL, 3)
    account.refresh()
    stream.deliver()
    assert lost(account) == {"heap_ring_full": 3}
    losses.count(LATER, Loss.HEAP_RING_FULL, 4)
    account.finished = True
    assert lost(account) == {"heap_ring_full": 7}


def test_a_later_process_of_the_pid_is_not_the_only_one_blamed(
    account, process_table, losses, stream, counters
):
    """Its own losses, and its end, do not remove what was lost before."""
    losses.count(CHILD, Loss.CONTROL_RING_FULL)
    assert lost(account) == {"control_ring_full": 1}
    stream.deliver()
    account.refresh()
    assert not losses
    child = process_table.add(ProcessFacts(CHILD, 2.0, "child", "/child"), Accounts())
    losses.count(CHILD, Loss.HEAP_RING_FULL)
    assert lost(account, CHILD) == {"control_ring_full": 1, "heap_ring_full": 1}
    counters.forget(CHILD)
    process_table.remove(child)
    assert lost(account) == {"control_ring_full": 1}


def test_every_cause_that_the_programs_count_has_a_row():
    assert {loss.name.lower() for loss in Loss} < LOSS_CAUSES.keys()


def test_what_is_hidden_at_the_end_is_lost(account, stream):
    stream.undelivered[Loss.HEAP_RING_FULL] = 5
    assert lost(account) == {"heap_ring_full": 5}


def test_records_of_the_kernel_are_told_from_those_of_forks(
    account, process_table, losses, stream, counters
):
    """A lost record that belongs to no process counts as one of kwatch's own."""
    losses.count(CHILD, Loss.CONTROL_RING_FULL, 4)
    stream.lost_control_records = 5
    for _ in range(3):
        found = lost(account)
        assert found == {"control_ring_full": 4, "mapping_record_lost": 1}
        stream.deliver()


def test_records_that_tell_no_more_than_a_path_are_no_loss(
    account, process_table, losses, stream, counters
):
    """With --follow and neither heap nor stacks, mapping records carry only a path."""
    counters._mappings = False
    losses.count(CHILD, Loss.CONTROL_RING_FULL, 4)
    stream.lost_control_records = 5
    assert lost(account) == {"control_ring_full": 4}


def test_a_later_process_of_the_pid_has_not_its_losses(
    account, process_table, losses, stream, counters
):
    """This holds even if all losses were read a moment ago."""
    losses.count(KNOWN, Loss.HEAP_RING_FULL, 5)
    assert lost(account) == {"heap_ring_full": 5}
    account._next_refresh = float("inf")
    account.refresh_of(KNOWN)
    assert account.of(KNOWN).by_cause == {"heap_ring_full": 5}
    counters.forget(KNOWN)
    process_table.remove(process_table.get(KNOWN))
    process_table.add(ProcessFacts(KNOWN, 2.0, "later", "/later"), Accounts())
    account.refresh_of(KNOWN)
    assert account.of(KNOWN).by_cause == {}


def test_losses_of_other_processes_make_no_verdict_unsure(account, losses, stream):
    """They are in every report all the same."""
    losses.count(CHILD, Loss.HEAP_RING_FULL, 3)
    stream.lost_control_records = 5
    account.finished = True
    assert lost(account) == {"heap_ring_full": 3, "mapping_record_lost": 5}
    assert account.of_heap(KNOWN).events == 0
    assert account.unreported == 3


def test_a_loss_that_may_be_anyones_makes_each_verdict_unsure(account, losses, stream):
    losses.count(KNOWN, Loss.HEAP_RING_FULL, 2)
    stream.undelivered[Loss.HEAP_RING_FULL] = 5
    account.refresh()
    assert account.of_heap(KNOWN).by_cause == {"heap_ring_full": 7}
    assert account.of_heap(LATER).by_cause == {"heap_ring_full": 5}
