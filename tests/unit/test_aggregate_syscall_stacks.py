# SPDX-License-Identifier: Apache-2.0
"""Counts of system calls by call and stack."""

from __future__ import annotations

from collections import Counter

import numpy as np
from harness.records import stacked_syscall_record

from kwatch.aggregate import SyscallStackAccount
from kwatch.aggregate.syscall_stacks import CallRow
from kwatch.wire.events import STACKED_SYSCALL, Abi, EventType

READ, WRITE = 0, 1
HERE, THERE = 1000, 2**64 - 1


def call(nr, stack, duration=100, result=0, kind=EventType.SYSCALL):
    return stacked_syscall_record(
        type=kind, abi=Abi.X86_64, nr=nr, duration_ns=duration, result=result, stack=stack
    )


def give(given, slot, *calls):
    given.add(np.array(list(calls), STACKED_SYSCALL), np.full(len(calls), slot))


def account(*calls, slot=1, **options):
    given = SyscallStackAccount(**options)
    give(given, slot, *calls)
    return given


def test_nothing_yet():
    given = account()
    assert (list(given.rows(1)), given.others(1), given.stacks(1)) == ([], 0, set())


def test_calls_are_counted_by_name_and_stack():
    given = account(call(READ, HERE, 10), call(READ, THERE, 20), call(WRITE, HERE, 40))
    give(given, 1, call(READ, HERE, 80, result=-9))
    assert sorted(given.rows(1)) == [
        CallRow(Abi.X86_64, READ, HERE, 2, 1, 90),
        CallRow(Abi.X86_64, READ, THERE, 1, 0, 20),
        CallRow(Abi.X86_64, WRITE, HERE, 1, 0, 40),
    ]
    assert given.stacks(1) == {HERE, THERE}


def test_calls_without_a_stack_have_no_stack_in_use():
    given = account(call(READ, 0), call(READ, 2))
    assert len(list(given.rows(1))) == 2
    assert given.stacks(1) == set()


def test_unfinished_calls_do_not_count():
    given = account(call(READ, HERE, kind=EventType.SYSCALL_UNFINISHED))
    assert list(given.rows(1)) == []


def test_a_dropped_slot_can_be_reused():
    given = account(call(READ, HERE), slot=1)
    give(given, 2, call(READ, HERE, 70))
    given.drop(1)
    given.drop(99)
    assert (list(given.rows(1)), given.stacks(1)) == ([], set())
    assert [row.total_ns for row in given.rows(2)] == [70]


def test_calls_beyond_the_limit_are_counted_together():
    given = account(
        call(READ, HERE), *(call(WRITE, stack) for stack in range(300, 310)), max_rows=4
    )
    give(given, 2, call(READ, HERE))
    give(given, 1, call(READ, 5000), call(READ, HERE), call(READ, 5000))
    rows = list(given.rows(1))
    assert len(rows) == 4
    assert sum(row.calls for row in rows) + given.others(1) == 14
    assert len(given.stacks(1)) <= 4
    assert (given.others(2), len(list(given.rows(2)))) == (0, 1)
    given.drop(1)
    assert given.others(1) == 0


def test_many_against_a_plain_count():
    random = np.random.default_rng(5)
    batch = np.zeros(20_000, STACKED_SYSCALL)
    batch["type"] = EventType.SYSCALL
    batch["nr"] = random.integers(0, 30, len(batch))
    batch["stack"] = random.integers(0, 2**63, 200)[random.integers(0, 200, len(batch))]
    batch["duration_ns"] = random.integers(1, 2**40, len(batch))
    slots = random.integers(1, 9, len(batch))
    given = SyscallStackAccount()
    for part in np.array_split(np.arange(len(batch)), 7):
        given.add(batch[part], slots[part])
    for slot in range(1, 9):
        calls, times = Counter(), Counter()
        for event in batch[slots == slot]:
            key = int(event["nr"]), int(event["stack"])
            calls[key] += 1
            times[key] += int(event["duration_ns"])
        rows = list(given.rows(slot))
        assert {(row.nr, row.stack): row.calls for row in rows} == calls
        assert {(row.nr, row.stack): row.total_ns for row in rows} == times
