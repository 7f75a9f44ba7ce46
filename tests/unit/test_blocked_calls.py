# SPDX-License-Identifier: Apache-2.0
"""Which calls in progress are told: those that last, once each, and never half-written ones."""

from __future__ import annotations

import time

import pytest

from kwatch.session import blocked_calls
from kwatch.session.blocked_calls import LONG_NS, BlockedCalls
from kwatch.session.thread_slots import KeptCall
from kwatch.wire.events import CALL
from kwatch.wire.maps import CallInProgress, KeptPieces, RecordedCall

NOW = 1 << 62  # all records until then have been taken


class Slots:
    """What BlockedCalls reads: a call in progress for each thread."""

    def __init__(self):
        self.calls = {}

    def enter(self, tid, seq, age_ns=2 * LONG_NS):
        call = CallInProgress(time_ns=time.monotonic_ns() - age_ns, tgid=1, tid=tid)
        self.calls[tid] = KeptCall(call, RecordedCall(seq=seq, tid=tid), KeptPieces())

    def recorded(self):
        return list(self.calls.values())


@pytest.fixture
def slots():
    return Slots()


@pytest.fixture
def look(slots, monkeypatch):
    """look(before_ns): the tid and the number of each call that is told."""
    monkeypatch.setattr(blocked_calls, "_LOOK_S", 0)
    monkeypatch.setattr(blocked_calls, "_REST", 0)
    blocked = BlockedCalls(slots, CALL)

    def told(before_ns=NOW):
        return [(int(each["tid"]), int(each["seq"])) for each in blocked.new(before_ns).events]

    return told


def test_a_call_is_told_once_it_has_been_seen_twice(slots, look):
    slots.enter(5, 1)
    assert [look(), look(), look()] == [[], [(5, 1)], []]


def test_the_longest_comes_first(slots, look):
    slots.enter(5, 1)
    slots.enter(6, 9, 3 * LONG_NS)
    look()
    assert look() == [(6, 9), (5, 1)]


def test_a_slot_that_changes_is_being_written(slots, look):
    """A new call begins: its number is there, and the time is still that of the one before."""
    slots.enter(5, 1)
    look()
    slots.calls[5].recorded.seq = 2
    assert look() == []


def test_a_short_call_is_not_told(slots, look):
    slots.enter(5, 1, LONG_NS * 3 // 4)
    assert [look(), look()] == [[], []]


def test_the_next_call_of_a_thread(slots, look):
    slots.enter(5, 1)
    look(), look()
    slots.enter(5, 2)
    assert [look(), look()] == [[], [(5, 2)]]


def test_a_call_whose_entry_may_not_have_been_read_waits(slots, look):
    slots.enter(5, 1)
    look()
    assert look(slots.calls[5].call.time_ns) == []
    assert look() == [(5, 1)]
