# SPDX-License-Identifier: Apache-2.0
"""LiveBlocks compared with a dict, at sizes where runs are merged and compacted."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch.aggregate.blocks import LiveBlocks
from kwatch.aggregate.order import stable_argsort


def column(values):
    return np.array(values, np.uint64)


def put(blocks, addresses, first=0):
    """Inserts blocks with sizes, stacks and times that follow from `first`; returns their dict."""
    sizes = np.arange(first, first + len(addresses), dtype=np.uint64)
    superseded = blocks.insert(column(addresses), sizes, sizes + 1, sizes + 2)
    rows = {int(a): (int(s), int(s) + 1, int(s) + 2) for a, s in zip(addresses, sizes, strict=True)}
    return rows, superseded


def content(blocks):
    arrays = blocks.arrays()
    assert np.all(arrays.addresses[1:] > arrays.addresses[:-1])
    rows = zip(*(values.tolist() for values in arrays), strict=True)
    return {address: tuple(rest) for address, *rest in rows}


def test_unsorted_addresses_are_taken_and_returned_sorted():
    blocks = LiveBlocks()
    rows, superseded = put(blocks, [5, 1, 3])
    assert content(blocks) == rows
    assert superseded == 0
    assert (len(blocks), blocks.bytes) == (3, 0 + 1 + 2)


def test_insert_supersedes():
    blocks = LiveBlocks()
    put(blocks, [1, 2, 3])
    rows, superseded = put(blocks, [3, 4, 1], first=10)
    assert superseded == 2
    assert content(blocks) == rows | {2: (1, 2, 3)}
    assert blocks.bytes == 10 + 11 + 12 + 1


def test_find_returns_what_is_there():
    blocks = LiveBlocks()
    put(blocks, [1, 2, 3], first=10)
    found, sizes, stacks, times = blocks.find(column([4, 3, 1]))
    assert found.tolist() == [False, True, True]
    assert sizes.tolist() == [0, 12, 10]
    assert stacks.tolist() == [0, 13, 11]
    assert times.tolist() == [0, 14, 12]
    assert len(blocks) == 3


def test_discard_returns_number_and_bytes():
    blocks = LiveBlocks()
    put(blocks, [1, 2, 3], first=10)
    assert blocks.discard(column([4, 3, 1])) == (2, 12 + 10)
    assert (len(blocks), blocks.bytes) == (1, 11)
    assert blocks.discard(column([3, 1])) == (0, 0)


def test_empty_and_cleared():
    blocks = LiveBlocks()
    put(blocks, [])
    assert content(blocks) == {}
    assert blocks.discard(column([1])) == (0, 0)
    put(blocks, [1, 2])
    blocks.clear()
    assert (len(blocks), blocks.bytes, content(blocks)) == (0, 0, {})


def test_the_arrays_cannot_be_written():
    blocks = LiveBlocks()
    put(blocks, [1])
    with pytest.raises(ValueError, match="read-only"):
        blocks.arrays().sizes[0] = 1


@pytest.mark.parametrize("seed", range(8))
def test_many_batches_against_a_dict(seed):
    random = np.random.default_rng(seed)
    blocks, expected, copies = LiveBlocks(), {}, []
    for step in range(60):
        size = int(random.integers(1, 10 ** int(random.integers(1, 5))))
        addresses = random.choice(20_000, min(size, 20_000), replace=False) * 16
        if random.random() < 0.5:
            rows, superseded = put(blocks, addresses, first=step)
            assert superseded == len(rows.keys() & expected.keys())
            expected |= rows
        else:
            found = blocks.find(column(addresses))[0]
            blocks.discard(column(addresses))
            gone = [expected.pop(int(address), None) is not None for address in addresses]
            assert found.tolist() == gone
        assert len(blocks) == len(expected)
        assert blocks.bytes == sum(row[0] for row in expected.values())
        if step % 20 == 7:
            copies.append((blocks.copy(), expected.copy()))
        if step % 10 == 9:
            assert content(blocks) == expected
    assert all(content(copy) == rows for copy, rows in copies)


def test_memory_per_block():
    blocks = LiveBlocks()
    addresses = np.arange(100_000, dtype=np.uint64)
    for part in np.array_split(addresses, 100):
        blocks.insert(part, part, part, part)
    assert blocks.nbytes <= 33 * len(addresses)
    for start in range(0, 100_000, 1000):
        blocks.discard(addresses[start : start + 990])
    assert blocks.nbytes <= 2 * 33 * len(blocks)


@pytest.mark.parametrize("span", [0, 3, 15, 16, 17, 31, 40, 63])
@pytest.mark.parametrize("shift", [0, 4])
def test_argsort_is_stable(span, shift):
    keys = np.random.default_rng(1).integers(0, 2**span, 1000, np.uint64) << np.uint64(shift)
    expected = np.argsort(keys, kind="stable")
    assert stable_argsort(keys).tolist() == expected.tolist()
    assert stable_argsort(keys[:0]).tolist() == []
