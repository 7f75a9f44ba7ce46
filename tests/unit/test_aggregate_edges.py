# SPDX-License-Identifier: Apache-2.0
"""Edges of the accounts: reused slots, copies, limits that are met exactly, bounded work."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness.records import heap_batch, heap_record, syscall_record, typed

from kwatch.aggregate import HeapAccount, Limits, LiveBlocks, MemoryAccount, SyscallAccount
from kwatch.wire.events import HEAP, SYSCALL, EventType

BREAK, PAGE = 0x5555_0000_0000, 4096


def calls_of(slot, account, *durations):
    records = [syscall_record(type=EventType.SYSCALL, duration_ns=each) for each in durations]
    account.add(np.array(records, SYSCALL), np.full(len(records), slot))


def stats_of(account, slot):
    (stats,) = account.summary(slot, lambda abi, nr: "read").by_name
    return stats


def test_a_reused_slot_starts_with_an_empty_histogram():
    account = SyscallAccount()
    calls_of(0, account, *[100] * 50)
    account.drop(0)
    calls_of(0, account, 101)
    stats = stats_of(account, 0)
    assert (stats.calls, stats.total_ns, stats.max_ns) == (1, 101, 101)


def test_dropping_one_process_leaves_the_others_alone():
    account = SyscallAccount()
    for slot in range(3):
        calls_of(slot, account, *[100 + slot] * (slot + 1))
    account.drop(1)
    assert account.summary(1, lambda abi, nr: "read").calls == 0
    assert [stats_of(account, slot).calls for slot in (0, 2)] == [1, 3]
    assert [stats_of(account, slot).total_ns for slot in (0, 2)] == [100, 306]


def test_the_99th_percentile_leaves_out_one_call_in_a_hundred():
    account = SyscallAccount()
    calls_of(0, account, *[100] * 99, 1_000_000)
    stats = stats_of(account, 0)
    assert stats.p99_ns == pytest.approx(100, rel=0.032)
    assert stats.max_ns == 1_000_000


def test_the_memory_of_an_account_counts_every_part():
    account = SyscallAccount()
    calls_of(0, account, 100)
    parts = [*account._counters.values(), account._histogram]
    assert account.nbytes == sum(part.nbytes for part in parts) + account._cells.nbytes


def moved(account, *breaks):
    records = [heap_record(type=EventType.BRK, address=each) for each in breaks]
    account.add(*typed(np.array(records, HEAP)))
    return account


def test_a_break_that_is_known_at_the_start_counts_from_there():
    account = MemoryAccount(PAGE)
    account.start(BREAK)
    assert account.snapshot().brk_bytes == 0
    assert moved(account, BREAK + 3 * PAGE).snapshot().brk_bytes == 3 * PAGE
    assert moved(account, BREAK + PAGE).snapshot().brk_bytes == PAGE


def test_a_child_inherits_the_growth_of_the_break():
    parent = moved(MemoryAccount(PAGE), BREAK, BREAK + 2 * PAGE)
    child = parent.fork()
    assert child.snapshot().brk_bytes == 2 * PAGE
    moved(child, BREAK + 5 * PAGE)
    assert (parent.snapshot().brk_bytes, child.snapshot().brk_bytes) == (2 * PAGE, 5 * PAGE)


def allocations(*rows):
    """(address, size, time) of each block."""
    account = HeapAccount()
    fields = [{"address": a, "size": s, "time_ns": t, "stack": 1} for a, s, t in rows]
    account.add(*typed(heap_batch({"type": EventType.ALLOC, **each} for each in fields)))
    return account


@pytest.mark.parametrize(
    ("limits", "listed"),
    [
        ({"since_ns": 20}, [0x20, 0x30]),
        ({"since_ns": 21}, [0x30]),
        ({"since_ns": 31}, []),
        ({"older_ns": 10, "since_ns": 20}, [0x20, 0x30]),
        ({"older_ns": 11, "since_ns": 20}, [0x20]),
        ({"min_size": 1}, [0x10, 0x20, 0x30]),
        ({"min_size": 2, "max_size": 2}, [0x20]),
    ],
)
def test_blocks_that_meet_a_limit_exactly_are_listed(limits, listed):
    account = allocations((0x10, 1, 10), (0x20, 2, 20), (0x30, 3, 30))
    stacks = account.snapshot(40, Limits(**limits)).stacks
    assert [address for stack in stacks for address in stack.addresses] == listed


def inserted(count, size=1):
    blocks = LiveBlocks()
    for part in np.arange(1, count * size + 1, dtype=np.uint64).reshape(count, size):
        blocks.insert(part, part, part, part)
    return blocks


def test_a_copy_has_its_own_total():
    blocks = inserted(4)
    twin = blocks.copy()
    assert twin.bytes == blocks.bytes == 1 + 2 + 3 + 4
    twin.discard(np.array([4], np.uint64))
    assert (twin.bytes, blocks.bytes) == (6, 10)


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_many_small_batches_leave_few_runs(count):
    """A lookup visits every run, so their number grows only as the logarithm of the blocks."""
    assert len(inserted(count, size=3)._runs) <= math.log(count, 4) + 2
