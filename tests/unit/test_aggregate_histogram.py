# SPDX-License-Identifier: Apache-2.0
"""The histogram's error bound, and its storage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.aggregate.histogram import BUCKETS, HistogramRows, bucket_of, percentile, value_of


def durations(*values):
    return np.array(values, np.uint64)


@given(st.integers(16, 2**44 - 1))
def test_a_value_read_back_is_within_the_bound(duration):
    (bucket,) = bucket_of(durations(duration)).tolist()
    assert abs(value_of(bucket) - duration) <= 0.032 * duration


def test_buckets_are_in_order_and_contain_their_value():
    values = [value_of(bucket) for bucket in range(BUCKETS)]
    assert values == sorted(values)
    assert bucket_of(durations(*values))[16:].tolist() == list(range(16, BUCKETS))


def test_what_lies_outside_counts_at_the_ends():
    edges = bucket_of(durations(0, 1, 15, 2**44, 2**64 - 1)).tolist()
    assert edges == [0, 0, 0, BUCKETS - 1, BUCKETS - 1]


@pytest.mark.parametrize("q", [0, 1, 50, 90, 99, 100])
def test_percentiles_are_those_of_the_values(q):
    values = np.sort(np.random.default_rng(7).lognormal(9, 2, 10_000).astype(np.uint64) + 16)
    counts = np.bincount(bucket_of(values), minlength=BUCKETS)
    expected = int(np.percentile(values, q, method="inverted_cdf"))
    assert percentile(counts, q) == pytest.approx(expected, rel=0.032)


def test_nothing_has_no_percentile():
    assert percentile(np.zeros(BUCKETS, np.int64), 50) == 0


def test_rows_are_apart_and_can_be_dropped():
    random = np.random.default_rng(1)
    rows, buckets = random.integers(0, 50, 10_000), random.integers(0, BUCKETS, 10_000)
    table = HistogramRows()
    table.resize(50)
    table.add(rows, buckets)
    table.drop(np.array([3, 4]))
    held = table.nbytes
    assert not table.counts(3).any()
    table.add(rows[(rows == 3) | (rows == 5)], buckets[(rows == 3) | (rows == 5)])
    assert table.nbytes == held
    for row, times in ((3, 1), (4, 0), (5, 2), (6, 1)):
        expected = times * np.bincount(buckets[rows == row], minlength=BUCKETS)
        assert table.counts(row).tolist() == expected.tolist()


def test_a_row_takes_little_memory():
    table = HistogramRows()
    table.resize(5000)
    table.add(np.arange(5000), np.full(5000, 200))
    assert table.nbytes < 5000 * 1024
