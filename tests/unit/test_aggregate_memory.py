# SPDX-License-Identifier: Apache-2.0
"""Mappings and the break: examples, and a comparison with a set of pages."""

from __future__ import annotations

import numpy as np
import pytest
from harness.records import heap_record, typed
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.aggregate import Limits, MemoryAccount
from kwatch.model.snapshot import MemoryStats
from kwatch.wire.events import HEAP, EventType, MappingFlag

PAGE = 4096
BASE = 0x7F00_0000_0000


def event(kind, address, size=0):
    return heap_record(type=kind, tid=1, address=address, size=size, tgid=1)


def map_pages(first, count):
    return event(EventType.MAP, BASE + first * PAGE, count * PAGE)


def unmap_pages(first, count):
    return event(EventType.UNMAP, BASE + first * PAGE, count * PAGE)


def brk(address):
    return event(EventType.BRK, address)


def account(*events):
    memory = MemoryAccount()
    memory.add(*typed(np.array(list(events), HEAP)))
    return memory


def totals(pages, mappings, mmap_calls, munmap_calls, brk_bytes=0):
    """All mappings are the program's own."""
    size = pages * PAGE
    return MemoryStats(size, mappings, mmap_calls, munmap_calls, brk_bytes, size, mappings)


def mapped(*events):
    """(mappings, pages)"""
    stats = account(*events).snapshot()
    return stats.mappings, stats.mapped_bytes / PAGE


def test_a_mapping_that_is_unmapped_is_gone():
    stats = account(map_pages(0, 4), map_pages(8, 2), unmap_pages(0, 4)).snapshot()
    assert stats == totals(2, 1, 2, 1)


def test_a_partial_munmap_shortens_or_splits_a_mapping():
    assert mapped(map_pages(0, 10), unmap_pages(0, 3)) == (1, 7)
    assert mapped(map_pages(0, 10), unmap_pages(7, 3)) == (1, 7)
    assert mapped(map_pages(0, 10), unmap_pages(4, 2)) == (2, 8)


def test_one_munmap_ends_several_mappings():
    assert mapped(map_pages(0, 2), map_pages(2, 2), map_pages(6, 2), unmap_pages(1, 6)) == (2, 2)


def test_mappings_from_before_the_attach_do_not_count():
    assert mapped(unmap_pages(0, 100)) == (0, 0)
    assert mapped(map_pages(10, 2), unmap_pages(0, 11)) == (1, 1)


def test_a_fixed_mapping_replaces():
    assert mapped(map_pages(0, 10), map_pages(0, 10)) == (1, 10)
    assert mapped(map_pages(0, 10), map_pages(4, 2)) == (3, 10)
    assert mapped(map_pages(4, 2), map_pages(0, 10)) == (1, 10)


def test_sizes_are_whole_pages():
    assert mapped(event(EventType.MAP, BASE, 1)) == (1, 1)
    assert mapped(map_pages(0, 2), event(EventType.UNMAP, BASE, PAGE + 1)) == (0, 0)
    assert mapped(event(EventType.MAP, BASE, 0)) == (0, 0)


def test_the_break_counts_from_where_it_was_first_seen():
    assert account().snapshot().brk_bytes == 0
    assert account(brk(BASE)).snapshot().brk_bytes == 0
    assert account(brk(BASE), brk(BASE + 100), brk(BASE + 100)).snapshot().brk_bytes == 100
    assert account(brk(BASE), brk(BASE - 100)).snapshot().brk_bytes == -100


def test_other_events_are_ignored():
    assert account(event(EventType.ALLOC, BASE, PAGE)).snapshot() == MemoryStats()


def test_a_child_has_the_mappings_of_its_parent():
    parent = account(map_pages(0, 4), brk(BASE), brk(BASE + 100))
    child = parent.fork()
    child.add(*typed(np.array([unmap_pages(0, 1), brk(BASE + 50)], HEAP)))
    assert child.snapshot() == totals(3, 1, 0, 1, 50)
    assert parent.snapshot() == totals(4, 1, 1, 0, 100)


def test_exec_clears_the_mappings_and_the_break():
    memory = account(map_pages(0, 4), brk(BASE), brk(BASE + 100))
    memory.exec()
    assert memory.snapshot() == MemoryStats()
    memory.add(*typed(np.array([brk(2 * BASE)], HEAP)))
    assert memory.snapshot().brk_bytes == 0


CALLS = st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 12))


@settings(max_examples=500, deadline=None)
@given(st.lists(CALLS, max_size=40))
def test_mappings_agree_with_a_page_table(calls):
    memory, pages = MemoryAccount(), {}
    for number, (is_map, first, count) in enumerate(calls):
        memory.add(*typed(np.array([(map_pages if is_map else unmap_pages)(first, count)], HEAP)))
        for page in range(first, first + count):
            pages.pop(page, None)
            if is_map:
                pages[page] = number
        stats = memory.snapshot()
        pieces = sum(pages.get(page - 1) != owner for page, owner in pages.items())
        assert stats.mapped_bytes == len(pages) * PAGE
        assert stats.mappings == pieces


def own(*events, now_ns=9_000_000_000):
    """(bytes, mappings, age) of each stack, of the mappings that the program itself made."""
    rows = account(*events).stacks(now_ns, Limits())
    return {row.stack: (row.bytes // PAGE, row.blocks, row.oldest_s) for row in rows}


def mapping(first, count, flags=0, stack=7, time_ns=1_000_000_000):
    fields = {"address": BASE + first * PAGE, "size": count * PAGE, "stack": stack}
    return heap_record(type=EventType.MAP, tid=1, function=flags, time_ns=time_ns, **fields)


def test_mappings_of_allocators_and_files_are_not_the_programs_own():
    theirs = [mapping(10, 1, MappingFlag.BY_ALLOCATOR), mapping(20, 1, MappingFlag.OF_FILE)]
    mine = [mapping(0, 2), mapping(30, 4), mapping(40, 1, stack=8)]
    assert own(*theirs, *mine) == {7: (6, 2, 8.0), 8: (1, 1, 8.0)}
    stats = account(*theirs, *mine).snapshot()
    assert (stats.own_bytes, stats.own_mappings, stats.mappings) == (7 * PAGE, 3, 5)


@pytest.mark.parametrize("flag", [0, MappingFlag.BY_ALLOCATOR, MappingFlag.OF_FILE])
def test_what_mremap_moves_stays_what_it_was(flag):
    moved = MappingFlag.MOVED
    gone = heap_record(type=EventType.UNMAP, tid=1, function=moved, address=BASE, size=2 * PAGE)
    events = [mapping(0, 2, flag), gone, mapping(50, 4, moved, stack=9, time_ns=3_000_000_000)]
    assert own(*events) == ({} if flag else {9: (4, 1, 6.0)})
