# SPDX-License-Identifier: Apache-2.0
"""Numbers of distinct keys, and totals by stack, compared with a simple and slow way."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kwatch.aggregate import Blocks
from kwatch.aggregate.distinct import distinct
from kwatch.aggregate.totals import AllocTotals

KEYS = (
    st.integers(0, 2**64 - 1)
    | st.integers(0, 20)
    | st.integers(0, 2**20 - 1).map(lambda n: n << 44)
)


@given(st.lists(KEYS))
def test_every_key_is_found_once(keys):
    found, numbers = distinct(np.array(keys, np.uint64))
    assert found[numbers].tolist() == keys
    assert sorted(found.tolist()) == sorted(set(keys))


def test_more_keys_than_slots():
    keys = np.random.default_rng(7).permutation(np.arange(3_000_000, dtype=np.uint64) // 2)
    found, numbers = distinct(keys)
    assert len(found) == 1_500_000
    assert np.array_equal(found[numbers], keys)


@given(st.lists(st.lists(st.tuples(KEYS, st.integers(0, 2**40)))))
def test_totals_are_sums(batches):
    totals, count, size = AllocTotals(), Counter(), Counter()
    for batch in batches:
        stacks = np.array([stack for stack, _ in batch], np.uint64)
        totals.add(stacks, np.array([number for _, number in batch], np.uint64))
        for stack, number in batch:
            count[stack] += 1
            size[stack] += number
    rows = totals.with_live(Blocks(*np.empty((4, 0), np.uint64)))
    assert {row.stack: (row.alloc_blocks, row.alloc_bytes) for row in rows} == {
        stack: (count[stack], size[stack]) for stack in count
    }
    assert not any(row.live_blocks or row.live_bytes for row in rows)
