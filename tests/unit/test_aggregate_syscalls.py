# SPDX-License-Identifier: Apache-2.0
"""Counts and times of system calls by process and name."""

from __future__ import annotations

import numpy as np
import pytest
from harness.records import syscall_record

from kwatch.aggregate import SyscallAccount
from kwatch.model.snapshot import SyscallSummary
from kwatch.wire.events import SYSCALL, Abi, EventType

READ, WRITE, CLOSE = 0, 1, 3
I386_READ = 3


def call(nr, duration=100, result=0, abi=Abi.X86_64, kind=EventType.SYSCALL):
    return syscall_record(type=kind, abi=abi, nr=nr, duration_ns=duration, result=result, tgid=1)


def unfinished(nr):
    return call(nr, duration=10**9, kind=EventType.SYSCALL_UNFINISHED)


def name_of(abi, nr):
    names = {(Abi.X86_64, READ): "read", (Abi.X86_64, WRITE): "write", (Abi.I386, 3): "read"}
    return names.get((abi, nr), f"syscall_{nr}")


def account(*calls, slot=0):
    given = SyscallAccount()
    give(given, slot, *calls)
    return given


def give(given, slot, *calls):
    given.add(np.array(list(calls), SYSCALL), np.full(len(calls), slot))


def by_name(given, slot=0):
    return {stats.name: stats for stats in given.summary(slot, name_of).by_name}


def test_nothing_yet():
    assert SyscallAccount().summary(0, name_of) == SyscallSummary()
    assert account().summary(3, name_of) == SyscallSummary()


def test_calls_are_counted_and_timed_by_name():
    summary = account(call(READ, 100), call(READ, 300), call(WRITE, 1000)).summary(0, name_of)
    assert (summary.calls, summary.errors) == (3, 0)
    write, read = summary.by_name
    assert (write.name, write.calls, write.total_ns, write.max_ns) == ("write", 1, 1000, 1000)
    assert (read.name, read.calls, read.total_ns, read.max_ns) == ("read", 2, 400, 300)
    assert read.p50_ns == pytest.approx(100, rel=0.032)
    assert read.p99_ns == pytest.approx(300, rel=0.032)


@pytest.mark.parametrize(
    ("result", "errors"),
    [(-1, 1), (-4095, 1), (-4096, 0), (0, 0), (1, 0), (2**63 - 1, 0), (-(2**63), 0)],
)
def test_errors_are_results_from_minus_4095_to_minus_1(result, errors):
    summary = account(call(READ, result=result)).summary(0, name_of)
    assert summary.errors == summary.by_name[0].errors == errors


def test_a_percentile_is_never_above_the_maximum():
    (read,) = account(*[call(READ, 1025)] * 10).summary(0, name_of).by_name
    assert (read.p50_ns, read.p99_ns, read.max_ns) == (1025, 1025, 1025)


def test_unfinished_calls_are_shown_but_not_counted():
    stats = by_name(account(call(READ, 100), unfinished(READ), unfinished(WRITE)))
    assert (stats["read"].calls, stats["read"].unfinished, stats["read"].max_ns) == (1, 1, 100)
    assert (stats["write"].calls, stats["write"].unfinished, stats["write"].p50_ns) == (0, 1, 0)


def test_tables_of_different_abis_are_merged_by_name():
    calls = (call(READ, 100), call(I386_READ, 200, result=-9, abi=Abi.I386), call(CLOSE, 50))
    stats = by_name(account(*calls))
    assert set(stats) == {"read", "syscall_3"}
    assert (stats["read"].calls, stats["read"].errors, stats["read"].total_ns) == (2, 1, 300)


def test_processes_are_counted_separately():
    given = account(call(READ, 100), slot=5)
    give(given, 0, call(READ, 200), call(WRITE, 300))
    assert by_name(given, 5)["read"].total_ns == 100
    assert by_name(given, 0)["read"].total_ns == 200
    assert by_name(given, 4) == {}


def test_a_dropped_slot_can_be_reused():
    given = account(call(READ), call(WRITE), unfinished(READ), slot=1)
    give(given, 2, call(READ, 70))
    given.drop(1)
    given.drop(99)
    assert by_name(given, 1) == {}
    give(given, 1, call(CLOSE, 40))
    assert by_name(given, 1)["syscall_3"].max_ns == 40
    assert set(by_name(given, 1)) == {"syscall_3"}
    assert by_name(given, 2)["read"].total_ns == 70


def test_totals_are_exact():
    given = account(*[call(READ, 2**53 + 1)] * 3)
    assert by_name(given)["read"].total_ns == 3 * (2**53 + 1)


def test_numbers_above_the_limit_are_counted_together():
    stats = by_name(account(call(60000), call(1023), call(65535)))
    assert stats["syscall_1023"].calls == 3


def test_many_processes_and_calls_against_a_plain_count():
    random = np.random.default_rng(3)
    batch = np.zeros(20_000, SYSCALL)
    batch["type"] = EventType.SYSCALL
    batch["nr"] = random.integers(0, 300, len(batch))
    batch["duration_ns"] = random.lognormal(8, 3, len(batch)) + 1
    batch["result"] = random.integers(-3, 10, len(batch))
    slots = random.integers(0, 40, len(batch))
    given = SyscallAccount()
    for part in np.array_split(np.arange(len(batch)), 7):
        given.add(batch[part], slots[part])
    for slot in range(40):
        own = batch[slots == slot]
        summary = given.summary(slot, lambda abi, nr: str(nr))
        assert (summary.calls, summary.errors) == (len(own), np.sum(own["result"] < 0))
        for stats in summary.by_name:
            durations = own["duration_ns"][own["nr"] == int(stats.name)]
            expected = (len(durations), durations.sum(), durations.max())
            assert (stats.calls, stats.total_ns, stats.max_ns) == expected


def test_short_lived_processes_take_no_more_memory():
    given = SyscallAccount()
    sizes = set()
    for index in range(50):
        give(given, index % 5, *[call(nr) for nr in range(20)])
        given.drop(index % 5)
        if index >= 5:
            sizes.add(given.nbytes)
    assert len(sizes) == 1


def test_a_call_of_a_process_takes_little_memory():
    given = SyscallAccount()
    empty = given.nbytes
    for slot in range(1000):
        give(given, slot, *[call(nr, 100) for nr in range(5)])
    assert given.nbytes - empty < 5000 * 1024
