# SPDX-License-Identifier: Apache-2.0
"""Which stacks have lost blocks, as scans of the memory say."""

from __future__ import annotations

import numpy as np
import pytest
from harness.heap_events import account, alloc

from kwatch.aggregate import Limits
from kwatch.aggregate.block_classes import BlockClasses
from kwatch.model.reach import Amount, BlockCounts, Reach

A, B, C = 0x55D0_0000_1010, 0x55D0_0000_2020, 0x7F00_1234_5670
SECOND = 1_000_000_000


def scan(first, last, **classes):
    """The classes of the blocks A, B and C."""
    found = sorted((globals()[name], reach) for name, reach in classes.items())
    addresses, reaches = zip(*found, strict=True)
    return BlockClasses(np.array(addresses, np.uint64), np.array(reaches, np.uint8), first, last)


def test_stacks_that_lose_come_first_with_their_lost_blocks():
    given = account(
        [
            *(alloc(A, 1000, stack=1), alloc(B, 10, stack=2, time=1)),
            alloc(C, 20, stack=2, time=2),
        ]
    )
    limits = Limits(older_ns=100)
    found = scan(50, 60, A=Reach.REACHABLE, B=Reach.POSSIBLE, C=Reach.DEFINITE)
    losing, other = given.snapshot(200, limits, scan=found).stacks
    assert (losing.stack, losing.lost_bytes, losing.bytes) == (2, 20, 30)
    assert losing.reach == BlockCounts(definite=1, possible=1)
    assert losing.addresses == (C, B)
    assert losing.oldest_s == 199 / 1e9
    assert (other.stack, other.reach) == (1, BlockCounts(reachable=1))


def test_indirectly_lost_blocks_count_with_their_root():
    """Stack 1 allocates the roots, and stack 2 what they hold; one of those has no known root."""
    D = C + 0x100
    given = account(
        [
            *(alloc(A, 8, stack=1, time=1), alloc(B, 300, stack=2, time=2)),
            *(alloc(C, 300, stack=2, time=3), alloc(D, 5000, stack=3, time=3)),
        ]
    )
    addresses = np.array([A, B, C, D], np.uint64)
    reaches = [Reach.DEFINITE, Reach.INDIRECT, Reach.INDIRECT, Reach.REACHABLE]
    leaders = np.array([A, A, 0x77, D], np.uint64)
    found = BlockClasses(addresses, np.array(reaches, np.uint8), 10, 20, leaders)
    stacks = given.snapshot(100, scan=found).stacks
    assert [stack.stack for stack in stacks] == [1, 2, 3]
    assert [stack.direct for stack in stacks] == [Amount(1, 8), Amount(1, 300), Amount()]
    assert [stack.indirect for stack in stacks] == [Amount(1, 300), Amount(), Amount()]
    assert [stack.lost_bytes for stack in stacks] == [8, 600, 0]


def test_lost_blocks_are_listed_at_any_age():
    given = account([alloc(A, stack=1, time=90), alloc(B, stack=2, time=91)])
    found = scan(95, 96, A=Reach.INDIRECT, B=Reach.REACHABLE)
    snapshot = given.snapshot(100, Limits(older_ns=50), scan=found)
    assert [stack.stack for stack in snapshot.stacks] == [1]
    assert snapshot.young_blocks == 2


@pytest.mark.parametrize(
    ("time", "reach", "expected"),
    [
        (9, Reach.DEFINITE, BlockCounts(definite=1)),
        (10, Reach.DEFINITE, BlockCounts(unknown=1)),
        (19, Reach.REACHABLE, BlockCounts(reachable=1)),
        (20, Reach.REACHABLE, BlockCounts(unknown=1)),
    ],
)
def test_a_block_is_lost_only_if_it_was_there_before_the_first_scan(time, reach, expected):
    given = account([alloc(A, time=time)])
    (stack,) = given.snapshot(100, scan=scan(10, 20, A=reach)).stacks
    assert stack.reach == expected


def test_blocks_that_no_scan_saw_are_unknown():
    given = account([alloc(B)])
    (stack,) = given.snapshot(100, scan=scan(10, 20, A=Reach.DEFINITE)).stacks
    assert stack.reach == BlockCounts(unknown=1)
    nothing = BlockClasses(np.empty(0, np.uint64), np.empty(0, np.uint8), 10, 20)
    (stack,) = given.snapshot(100, scan=nothing).stacks
    assert stack.reach == BlockCounts(unknown=1)


def losing_stacks(*blocks, now, began=0):
    """The stacks by what they lose per second; a block is its stack, its size and its second."""
    rows = [(0x1000 * (1 + n), *block) for n, block in enumerate(blocks)]
    given = account([alloc(at, size, stack=s, time=t * SECOND) for at, s, size, t in rows])
    addresses = np.array([row[0] for row in rows], np.uint64)
    reaches = np.full(len(rows), Reach.DEFINITE, np.uint8)
    found = BlockClasses(addresses, reaches, now * SECOND, now * SECOND)
    limits = Limits(began_ns=began * SECOND)
    return [row.stack for row in given.snapshot(now * SECOND, limits, scan=found).stacks]


def test_the_stack_that_loses_most_per_second_comes_first():
    """Not the one that lost more in a longer time."""
    long_ago = [(1, 100, second) for second in range(0, 3000, 100)]
    of_late = [(2, 100, second) for second in range(2990, 3000)]
    assert losing_stacks(*long_ago, *of_late, now=3000) == [2, 1]


def test_a_single_lost_block_counts_for_the_whole_time():
    last_second = (1, 900, 59)
    leak = [(2, 10, second) for second in range(1, 60, 2)]
    assert losing_stacks(last_second, *leak, now=60) == [1, 2]
    assert losing_stacks(last_second, *leak, (2, 900, 58), now=60) == [2, 1]
    assert losing_stacks((1, 290, 59), *leak, now=60) == [2, 1]


def test_losses_from_before_kwatch_saw_them_do_not_stretch_the_time():
    single, pair = (1, 100, 50), [(2, 60, 50), (2, 60, 51)]
    assert losing_stacks(single, *pair, now=60, began=50) == [2, 1]
