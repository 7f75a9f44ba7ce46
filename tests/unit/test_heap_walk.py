# SPDX-License-Identifier: Apache-2.0
"""The walk of glibc's heap on made-up memory, whole and damaged."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from harness.fake_heap import HEAP, LIBC, MAPPED, TCACHE, FakeHeap
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.reach.heaps.heap_walk import walk_heap
from kwatch.reach.heaps.layouts import LAYOUTS
from kwatch.reach.heaps.window import Stop, Watched, follow

FIRST = HEAP + TCACHE
SIZES = st.lists(st.integers(2, 400).map(lambda units: units * 16), min_size=1, max_size=300)


def walk(heap, memory=None):
    memory = memory or heap.memory
    return walk_heap(memory, memory, heap.regions)


def blocks(result):
    return dict(zip(result.starts.tolist(), result.sizes.tolist(), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(sizes=SIZES)
def test_every_live_block_is_listed(layout, sizes):
    heap = FakeHeap(sizes, layout)
    result = walk(heap)
    assert blocks(result) == heap.live
    assert result.unwalked == ()
    assert result.pieces.tolist() == [
        [HEAP, HEAP + len(heap.heap) * 8],
        [MAPPED, MAPPED + len(heap.mapped) * 8],
    ]


def test_the_fastbins_of_a_heap_at_low_addresses_are_followed():
    """As in a program at a fixed address: protected links can be addresses of the heap, too."""
    sizes = [size for size in range(32, 144, 16) for _ in range(36)]
    heap = FakeHeap(sizes, LAYOUTS[0], start=0x1000000)
    result = walk(heap)
    assert blocks(result) == heap.live
    assert result.unwalked == ()


DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["heap", "libc", "mapped"]),
        st.integers(0, 1 << 20),
        st.one_of(
            st.sampled_from([0, 1, 16, 17, 32, 33, HEAP, HEAP + 16, LIBC + 0x400, MAPPED, 1 << 63]),
            st.integers(0, (1 << 64) - 1),
            st.integers(0, 1 << 16),
        ),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150)
@given(sizes=SIZES, damage=DAMAGE)
def test_damaged_memory_is_survived(sizes, damage):
    """Whatever the memory holds, the walk ends and what it returns is in order."""
    heap = FakeHeap(sizes, LAYOUTS[0])
    for part, place, value in damage:
        words = getattr(heap, part)
        words[place % len(words)] = value
    memory = heap.memory
    result = walk(heap, memory)
    assert memory.reads < 5000
    if result is None:
        return
    starts, ends = result.starts.astype(object), (result.starts + result.sizes).astype(object)
    assert all(starts[1:] > starts[:-1])
    limits = result.pieces.tolist()
    assert all(first < last for first, last in limits)
    assert all(last <= first for (_, last), (first, _) in pairwise(limits))
    for start, end in zip(starts, ends, strict=True):
        assert any(first < start <= end <= last + 8 for first, last in limits)


def test_what_follows_a_bad_chunk_is_named():
    """Blocks behind it, and a few before it, are in no piece: nothing there can be called lost."""
    heap = FakeHeap([256] * 3000, LAYOUTS[0])
    bad = TCACHE + 256 * 2000
    heap.heap[bad // 8 + 1] = 0xFFFF0000
    result = walk(heap)
    [heap_piece, _] = result.pieces.tolist()
    assert HEAP + bad - 256 * 70 < heap_piece[1] <= HEAP + bad
    inside = {a: size for a, size in heap.live.items() if a < heap_piece[1] or a > MAPPED}
    assert blocks(result) == inside
    assert result.unwalked == (
        f"{heap_piece[1]:#x}-{HEAP + len(heap.heap) * 8:#x} of the main heap",
    )


def test_a_changing_chunk_is_read_again():
    """The first two reads see a size of zero, as while another thread splits the chunk."""
    heap = FakeHeap([256] * 3000, LAYOUTS[0])
    memory = heap.memory
    place = (TCACHE + 256 * 2000) // 8 + 1
    size = heap.heap[place]
    heap.heap[place] = 0
    read, seen = memory.read, []

    def changing(ranges, into):
        if len(ranges) and ranges[0, 0] <= HEAP + place * 8 < ranges[0, 1]:
            seen.append(ranges[0].tolist())
            if len(seen) > 2:
                heap.heap[place] = size
        return read(ranges, into)

    memory.read = changing
    result = walk(heap, memory)
    assert blocks(result) == heap.live
    assert result.unwalked == ()
    assert [start for start, _ in seen[1:3]] == [
        FIRST + 256 * (2000 - 4),
        FIRST + 256 * (2000 - 16),
    ]


def test_mapped_blocks_that_glibc_does_not_count_are_roots():
    heap = FakeHeap([256] * 10, LAYOUTS[0])
    heap.libc[0x1000 // 8] = 65536 << 32  # n_mmaps
    heap.libc[0x1000 // 8 + 2] = 0
    result = walk(heap)
    assert MAPPED + 16 not in blocks(result)
    assert len(result.pieces) == 1
    assert result.unwalked == ("mapped blocks: 1 found where glibc counts 0",)


def test_data_that_look_like_sizes_are_not_taken_for_chunks():
    heap = FakeHeap([4096] * 100, LAYOUTS[0])
    for address, size in heap.live.items():
        if size == 4088:
            first = (address - HEAP) // 8
            heap.heap[first : first + 400] = 0x31
    assert blocks(walk(heap)) == heap.live


@pytest.mark.parametrize("size", [0, 8, 17, 31])
def test_an_impossible_size_ends_a_window(size):
    words = np.zeros(64, np.uint64)
    words[1], words[9] = 64 | 1, size
    window = follow(words, HEAP, HEAP + 512, 14, Watched(*[np.empty(0, np.uint64)] * 3))
    assert (window.stop, window.next, len(window.chunks)) == (Stop.BAD, HEAP + 64, 1)


def test_a_walk_needs_little_memory():
    """At most 30 bytes for each block, besides one window."""
    heap = FakeHeap([160] * 400_000, LAYOUTS[0])
    memory = heap.memory
    tracemalloc.start()
    result = walk(heap, memory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result.starts) > 250_000
    assert peak < 30 * 400_000 + (30 << 20)
