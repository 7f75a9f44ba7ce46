# SPDX-License-Identifier: Apache-2.0
"""The heap of one process, told as stories of events."""

from __future__ import annotations

import numpy as np
import pytest
from harness.heap_events import account, alloc, counters, event, failed, free, keep, live, release
from harness.records import typed

from kwatch.aggregate import HeapAccount, Limits, heap
from kwatch.aggregate.outstanding import MAX_LISTED
from kwatch.wire.events import HEAP, EventType

A, B, C = 0x55D0_0000_1010, 0x55D0_0000_2020, 0x7F00_1234_5670
SECOND = 1_000_000_000


def test_an_empty_account_has_nothing():
    assert counters(account()) == {}
    assert account([]).snapshot(0).stacks == ()


@pytest.mark.parametrize("cut", range(4))
def test_freed_blocks_are_gone_and_others_stay(cut):
    events = [alloc(A, 10), alloc(B, 20, stack=7, time=3), free(A)]
    given = account(events[:cut], events[cut:])
    assert live(given) == {B: (20, 7, 3)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 30, "frees": 1, "freed_bytes": 10}


def test_an_address_is_used_again_and_again():
    given = account([alloc(A, 1), free(A), alloc(A, 2), free(A), alloc(A, 4, time=9)])
    assert live(given) == {A: (4, 0, 9)}
    assert counters(given) == {"allocs": 3, "alloc_bytes": 7, "frees": 2, "freed_bytes": 3}


def test_a_block_of_an_earlier_batch_is_freed_and_its_address_reused():
    given = account([alloc(A, 5)], [free(A), alloc(A, 6)])
    assert live(given) == {A: (6, 0, 0)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 11, "frees": 1, "freed_bytes": 5}


def test_a_block_from_before_the_attach_is_freed_once():
    given = account([alloc(A), free(A), free(B), free(B)], [free(B), free(C), free(A)])
    assert given.unknown_frees == 5
    assert given.older_frees.count() == 3


def test_a_free_of_a_block_from_before_the_attach_is_unknown():
    assert counters(account([free(A)])) == {"unknown_frees": 1}


@pytest.mark.parametrize("cut", range(4))
def test_the_second_free_of_a_block_is_unknown(cut):
    events = [alloc(A, 10), free(A), free(A)]
    given = account(events[:cut], events[cut:])
    assert counters(given)["frees"] == 1
    assert counters(given)["unknown_frees"] == 1


@pytest.mark.parametrize("cut", range(3))
def test_an_address_allocated_twice_had_a_free_that_was_not_seen(cut):
    events = [alloc(A, 10), alloc(A, 20)]
    given = account(events[:cut], events[cut:])
    assert given.superseded == 1
    assert live(given) == {A: (20, 0, 0)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 30}
    assert given.snapshot(0).live_bytes == 20


@pytest.mark.parametrize("cut", range(4))
def test_a_block_whose_free_was_not_seen_does_not_stay(cut):
    events = [alloc(A, 10), alloc(A, 20), free(A)]
    given = account(events[:cut], events[cut:])
    assert given.superseded == 1
    assert live(given) == {}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 30, "frees": 1, "freed_bytes": 20}


def test_a_failed_malloc_is_not_an_allocation():
    given = account([failed(), alloc(A), failed(size=1 << 60)])
    assert given.snapshot(0).failed_allocs == 2
    assert counters(given)["allocs"] == 1


def test_events_that_concern_no_block_are_ignored():
    kinds = (EventType.MAP, EventType.UNMAP, EventType.BRK)
    assert counters(account([event(kind, A, 4096) for kind in kinds])) == {}


@pytest.mark.parametrize("cut", range(4))
def test_a_realloc_that_moves_ends_the_old_block(cut):
    events = [alloc(A, 10), release(A), alloc(B, 30)]
    given = account(events[:cut], events[cut:])
    assert live(given) == {B: (30, 0, 0)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 40, "frees": 1, "freed_bytes": 10}


@pytest.mark.parametrize("cut", range(4))
def test_a_realloc_in_place_is_a_new_block_at_the_same_address(cut):
    events = [alloc(A, 10), release(A), alloc(A, 30, time=5)]
    given = account(events[:cut], events[cut:])
    assert live(given) == {A: (30, 0, 5)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 40, "frees": 1, "freed_bytes": 10}
    assert given.superseded == 0


def test_the_block_of_a_realloc_in_progress_is_held():
    """Otherwise a sample at that moment shows a heap that has shrunk."""
    given = account([alloc(A, 10), alloc(B, 20)], [release(A)])
    assert live(given).keys() == {B}
    assert sorted(given.held_blocks().sizes.tolist()) == [10, 20]
    given.add(*typed(np.array([alloc(A, 30)], HEAP)))
    assert sorted(given.held_blocks().sizes.tolist()) == [20, 30]


@pytest.mark.parametrize("cut", range(8))
def test_a_realloc_that_fails_changes_nothing(cut):
    events = [
        alloc(A, 10, stack=7, time=3),
        release(A),
        alloc(B, 20, tid=2),
        event(EventType.BRK, C),
        keep(A),
        failed(),
        free(B, tid=2),
    ]
    given = account(events[:cut], events[cut:])
    assert live(given) == {A: (10, 7, 3)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 30, "frees": 1, "freed_bytes": 20}


@pytest.mark.parametrize("cut", range(4))
def test_the_block_of_a_failed_realloc_can_be_freed(cut):
    events = [alloc(A, 10), release(A), keep(A), free(A, tid=2)]
    given = account(events[:cut], events[cut:])
    assert counters(given) == {"allocs": 1, "alloc_bytes": 10, "frees": 1, "freed_bytes": 10}


def test_a_failed_realloc_over_three_batches():
    given = account([alloc(A, 10, time=3)], [release(A)], [alloc(B, 1, tid=2)], [keep(A)])
    assert live(given) == {A: (10, 0, 3), B: (1, 0, 0)}
    assert counters(given) == {"allocs": 2, "alloc_bytes": 11}


@pytest.mark.parametrize("cut", range(3))
def test_a_failed_realloc_of_an_unknown_block_changes_nothing(cut):
    events = [release(A), keep(A)]
    assert counters(account(events[:cut], events[cut:])) == {}


@pytest.mark.parametrize("cut", range(4))
def test_another_thread_may_get_the_address_while_realloc_moves_the_block(cut):
    events = [alloc(A, 10), release(A), alloc(A, 20, tid=2), alloc(B, 30)]
    given = account(events[:cut], events[cut:])
    assert live(given) == {A: (20, 0, 0), B: (30, 0, 0)}
    assert given.superseded == 0


def test_a_keep_without_its_release_is_ignored():
    given = account([alloc(A, 10), release(A), alloc(B), keep(A)], [keep(B), keep(C, tid=3)])
    assert live(given) == {B: (10, 0, 0)}


def test_a_child_has_the_blocks_of_its_parent_but_not_its_history():
    parent = account([alloc(A, 10), alloc(B, 20), free(A)])
    child = parent.fork()
    assert live(child) == live(parent)
    assert counters(child) == {}
    child.add(*typed(np.array([free(B)], HEAP)))
    assert live(child) == {}
    assert counters(child) == {"frees": 1, "freed_bytes": 20}
    assert live(parent) == {B: (20, 0, 0)}


def test_exec_clears_the_heap():
    given = account([alloc(A), free(B), failed()])
    given.exec()
    assert live(given) == {}
    assert counters(given) == {}
    assert given.snapshot(0).failed_allocs == 0


@pytest.mark.parametrize("base", [0, 1, 0xFFFF_F000_0000_0000])
def test_any_address_is_valid(base):
    given = account([alloc(base + step) for step in range(100)], [free(base), alloc(2**64 - 1)])
    assert sorted(live(given)) == [*range(base + 1, base + 100), 2**64 - 1]


def test_a_batch_is_processed_in_chunks(monkeypatch):
    monkeypatch.setattr(heap, "_CHUNK", 3)
    addresses = range(A, A + 160, 16)
    given = account([alloc(address) for address in addresses] + [free(a) for a in addresses[1:]])
    assert sorted(live(given)) == [A]


def test_stacks_are_listed_by_their_bytes():
    events = [alloc(A + 16 * i, 10, stack=1) for i in range(5)]
    given = account([*events, alloc(B, 60, stack=2), alloc(C, 1, stack=3)])
    stacks = given.snapshot(0, Limits(top=2)).stacks
    assert [(s.stack, s.bytes, s.blocks) for s in stacks] == [(2, 60, 1), (1, 50, 5)]
    assert stacks[1].addresses == tuple(A + 16 * i for i in range(5))
    assert stacks[1].sizes == (10,) * 5
    assert given.snapshot(0, Limits(top=0)).stacks == ()


def test_a_stack_lists_its_oldest_blocks():
    count = MAX_LISTED + 5
    given = account([alloc(A + 16 * i, 100 - i, time=(count - i) * SECOND) for i in range(count)])
    (stack,) = given.snapshot((count + 1) * SECOND).stacks
    assert stack.blocks == count
    assert stack.addresses == tuple(
        A + 16 * i for i in range(count - 1, count - 1 - MAX_LISTED, -1)
    )
    assert stack.sizes == tuple(100 - i for i in range(count - 1, count - 1 - MAX_LISTED, -1))
    assert stack.oldest_s == count


@pytest.mark.parametrize(
    ("limits", "listed"),
    [
        ({}, {A, B, C}),
        ({"older_ns": 3 * SECOND}, {A, B}),
        ({"older_ns": 9 * SECOND}, set()),
        ({"min_size": 20}, {B, C}),
        ({"max_size": 20}, {A, B}),
        ({"min_size": 11, "max_size": 29}, {B}),
    ],
)
def test_limits_choose_the_blocks_of_a_listing(limits, listed):
    events = [alloc(A, 10, time=SECOND), alloc(B, 20, time=SECOND), alloc(C, 30, time=3 * SECOND)]
    stats = account(events).snapshot(4 * SECOND, Limits(**limits))
    assert {address for stack in stats.stacks for address in stack.addresses} == listed
    assert stats.live_bytes == 60
    assert stats.live_blocks == 3


def test_stacks_that_are_the_same_are_listed_as_one_with_the_oldest_blocks_first():
    events = [alloc(A + 16 * i, i, stack=1 + i % 3, time=(50 - i) * SECOND) for i in range(30)]
    given = account([*events, alloc(C, 500, stack=9)])
    first, both = given.snapshot(60 * SECOND, Limits(), lambda ids: [min(i, 2) for i in ids]).stacks
    assert (first.stack, first.bytes) == (2, 500 + sum(i for i in range(30) if i % 3))
    assert first.addresses[:3] == (C, A + 16 * 29, A + 16 * 28)
    assert both.stack == 1
    assert both.addresses == tuple(A + 16 * i for i in range(27, -1, -3))


def test_the_oldest_of_very_many_blocks_are_listed():
    count = 5000
    given = account([alloc(A + 16 * i, 1, stack=i % 2, time=count - i) for i in range(count)])
    for stack in given.snapshot(count).stacks:
        newest = count - 2 + stack.stack
        assert stack.blocks == count // 2
        assert stack.addresses == tuple(A + 16 * (newest - 2 * i) for i in range(MAX_LISTED))


def by_stack(given):
    rows = given.by_stack()
    return {
        row.stack: (row.alloc_blocks, row.alloc_bytes, row.live_blocks, row.live_bytes)
        for row in rows
    }


def counted(*batches):
    given = HeapAccount(by_stack=True)
    for events in batches:
        given.add(*typed(np.array(events, HEAP)))
    return given


@pytest.mark.parametrize("cut", range(9))
def test_stacks_are_counted_whether_their_blocks_are_live_or_not(cut):
    events = [
        alloc(A, 10, stack=7),
        free(A),
        alloc(A, 20, stack=7),
        alloc(B, 5, stack=9),
        release(B),
        keep(B),
        failed(99, stack=9),
        free(C),
        alloc(C, 1, stack=2**64 - 1),
    ]
    given = counted(events[:cut], events[cut:])
    assert by_stack(given) == {7: (2, 30, 1, 20), 9: (1, 5, 1, 5), 2**64 - 1: (1, 1, 1, 1)}
    stats = given.snapshot(0)
    totals = [sum(column) for column in zip(*by_stack(given).values(), strict=True)]
    assert totals == [stats.allocs, stats.alloc_bytes, stats.live_blocks, stats.live_bytes]


def test_a_child_has_blocks_that_it_did_not_allocate_and_exec_clears_them():
    parent = counted([alloc(A, 10, stack=7), alloc(B, 20, stack=8), free(B)])
    child = parent.fork()
    child.add(*typed(np.array([alloc(B, 3, stack=8)], HEAP)))
    assert by_stack(child) == {7: (0, 0, 1, 10), 8: (1, 3, 1, 3)}
    assert by_stack(parent) == {7: (1, 10, 1, 10), 8: (1, 20, 0, 0)}
    parent.exec()
    parent.add(*typed(np.array([alloc(A, 4, stack=7)], HEAP)))
    assert by_stack(parent) == {7: (1, 4, 1, 4)}
