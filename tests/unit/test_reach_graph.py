# SPDX-License-Identifier: Apache-2.0
"""Searches of large graphs, whose answers are known, and the index of blocks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.model.reach import Reach
from kwatch.reach import graph as graph_module
from kwatch.reach import leaders as leaders_module
from kwatch.reach.classify import classify, reached_from
from kwatch.reach.graph import PointerGraph
from kwatch.reach.index import BlockIndex
from kwatch.reach.leaders import leaders

COUNT = 30_000  # more than the steps after which a chain is followed by doubling
ORDERS = {
    "ascending": np.arange(COUNT),
    "shuffled": np.random.default_rng(15).permutation(COUNT),
}


def graph_of(count, *columns):
    """Block i points to column[i] of each column, in their order; -1 is no pointer."""
    table = np.column_stack([np.asarray(column) for column in columns])
    first = np.concatenate(([0], np.cumsum(np.count_nonzero(table >= 0, axis=1))))
    return PointerGraph(first, (table[table >= 0] * 2).astype(np.uint32))


def chain(order):
    """The next and the previous block of each."""
    after, before = np.full((2, len(order)), -1)
    after[order[:-1]] = order[1:]
    before[order[1:]] = order[:-1]
    return after, before


def counts(graph, *roots):
    return Counter(Reach(value).name for value in classify(graph, np.array(roots, np.uint32)))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("columns", [(0,), (0, 1), (1, 0)], ids=["next", "next_prev", "prev_next"])
def test_a_long_list_is_one_group(order, columns):
    graph = graph_of(COUNT, *(chain(order)[column] for column in columns))
    assert counts(graph, 2 * order[0]) == {"REACHABLE": COUNT}
    assert counts(graph, 2 * order[0] + 1) == {"POSSIBLE": COUNT}
    assert counts(graph) == {"DEFINITE": 1, "INDIRECT": COUNT - 1}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_list_with_contents(order):
    """Every second block is the contents of a node."""
    nodes, contents = order[0::2], order[1::2]
    after, inside = np.full((2, COUNT), -1)
    after[nodes[:-1]] = nodes[1:]
    inside[nodes] = contents
    for columns in ((after, inside), (inside, after)):
        graph = graph_of(COUNT, *columns)
        assert counts(graph, 2 * nodes[0]) == {"REACHABLE": COUNT}
        assert counts(graph) == {"DEFINITE": 1, "INDIRECT": COUNT - 1}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_ring_is_led_by_its_lowest_block(order):
    after, _ = chain(order)
    after[order[-1]] = order[0]
    classes = classify(graph_of(COUNT, after), np.empty(0, np.uint32))
    assert classes[0] == Reach.DEFINITE
    assert np.all(classes[1:] == Reach.INDIRECT)


def test_a_ring_that_another_points_to_is_indirect():
    """The blocks 0 and 1 are led by 3, which is higher; 2 points to itself."""
    graph = graph_of(5, [1, 0, 2, 4, 3], [-1, -1, -1, 0, -1])
    classes = [Reach(value).name for value in classify(graph, np.empty(0, np.uint32))]
    assert classes == ["INDIRECT", "INDIRECT", "DEFINITE", "DEFINITE", "INDIRECT"]


def test_a_block_with_many_pointers():
    many = 2 * graph_module._PIECE + 5
    hub = PointerGraph(np.array([0] + [many] * 10), np.full(many, 2 * 3, np.uint32))
    hub.codes[-1] = 2 * 9
    assert np.flatnonzero(reached_from(hub, np.array([0], np.uint32))).tolist() == [0, 3, 9]


NO_ROOTS = np.empty(0, np.uint32)


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 40))
    pointers = st.integers(-1, count - 1)
    columns = [draw(st.lists(pointers, min_size=count, max_size=count)) for _ in range(3)]
    graph = graph_of(count, *columns)
    pointers = len(graph.codes)
    interior = draw(st.lists(st.booleans(), min_size=pointers, max_size=pointers))
    graph.codes[:] |= np.array(interior, np.uint32)
    roots = draw(st.lists(st.integers(0, 2 * count - 1), max_size=3))
    return graph, np.array(roots, np.uint32)


def closure(graph, starts_only):
    """Which block reaches which, itself too."""
    holders = np.repeat(np.arange(len(graph)), np.diff(graph.first))
    followed = graph.codes & 1 == 0 if starts_only else np.ones(len(graph.codes), bool)
    reached = np.eye(len(graph), dtype=bool)
    reached[holders[followed], graph.codes[followed] >> 1] = True
    for _ in range(len(graph).bit_length()):
        reached = reached @ reached
    return reached


def expected_classes(graph, roots):
    reaches = closure(graph, starts_only=False)
    possible = reaches[roots >> 1].any(axis=0)
    reachable = closure(graph, starts_only=True)[roots[roots & 1 == 0] >> 1].any(axis=0)
    classes = np.where(reachable, Reach.REACHABLE, Reach.POSSIBLE)
    for block in np.flatnonzero(~possible):
        above = ~possible & reaches[:, block]
        leads = reaches[block][above].all() and block == np.flatnonzero(above)[0]
        classes[block] = Reach.DEFINITE if leads else Reach.INDIRECT
    return classes.tolist()


@given(graphs())
def test_every_way_to_search_finds_the_same(drawn):
    graph, roots = drawn
    one_by_one = classify(graph, roots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_module, "_PIECE", 3)
        patch.setattr(graph_module, "_MAX_NARROW", 0)
        wide = classify(graph, roots)
        patch.setattr(graph_module, "_MAX_NARROW", 100)
        patch.setattr(graph_module, "_MIN_CHAIN", 1)
        patch.setattr(graph_module, "_TRIAL", 1)
        doubling = classify(graph, roots)
    assert one_by_one.tolist() == expected_classes(graph, roots)
    assert wide.tolist() == doubling.tolist() == one_by_one.tolist()


SPACINGS = {
    "dense": (16, 1, 4),  # the unit, and the least and most units between two starts
    "eight": (8, 1, 4),
    "odd": (1, 16, 64),
    "bytes": (1, 1, 3),
    "pages": (4096, 1, 8),
    "parts": (16, 1, 1 << 19),
}


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
def test_an_address_is_in_the_block_that_holds_it(spacing):
    unit, least, most = spacing
    random = np.random.default_rng(15)
    steps = random.integers(least, most, 5000, endpoint=True) * unit
    starts = (np.cumsum(steps) + (1 << 40)).astype(np.uint64)
    sizes = np.minimum(random.integers(0, 100, 5000), np.append(steps[1:], 100)).astype(np.uint64)
    index = BlockIndex(starts, sizes)
    near = starts[:, np.newaxis] + np.arange(-2, 102, dtype=np.int64).astype(np.uint64)
    addresses = np.concatenate((near.ravel(), [np.uint64(0), np.uint64(2**64 - 1)]))
    before = starts.searchsorted(addresses, "right").astype(int) - 1
    ends = starts + np.maximum(sizes, np.uint64(1))
    expected = np.where((before >= 0) & (addresses < ends[before]), before, -1)
    blocks, offsets = index.find(addresses)
    assert blocks.tolist() == expected.tolist()
    inside = blocks >= 0
    assert np.array_equal(offsets[inside], addresses[inside] - starts[blocks[inside]])
    assert index.nbytes <= 40 * len(starts) + (1 << 20)


def test_a_heap_of_no_blocks():
    empty = np.empty(0, np.uint64)
    assert BlockIndex(empty, empty).find(np.array([0, 5], np.uint64))[0].tolist() == [-1, -1]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_long_list_has_one_leader(order):
    graph = graph_of(COUNT, *chain(order))
    classes = classify(graph, NO_ROOTS)
    [leader] = set(leaders(graph, classes).tolist())
    assert classes[leader] == Reach.DEFINITE


def test_each_root_leads_to_what_it_holds():
    """200 objects, each with 3 blocks."""
    held = np.arange(200, 800).reshape(3, 200)
    columns = [np.append(column, np.full(600, -1)) for column in held]
    graph = graph_of(800, *columns)
    led = leaders(graph, classify(graph, NO_ROOTS))
    assert np.array_equal(led, np.tile(np.arange(200), 4))


@given(graphs())
def test_a_leader_reaches_what_it_leads_to(drawn):
    graph, roots = drawn
    classes = classify(graph, roots)
    reaches = closure(graph, starts_only=False)
    for min_wide in (0, 128):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leaders_module, "_MIN_WIDE", min_wide)
            found = leaders(graph, classes)
        indirect = classes == Reach.INDIRECT
        assert np.array_equal(found[~indirect], np.flatnonzero(~indirect))
        assert np.all(classes[found[indirect]] == Reach.DEFINITE)
        assert np.all(reaches[found[indirect], np.flatnonzero(indirect)])
