# SPDX-License-Identifier: Apache-2.0
"""The error bound of the histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.aggregate.histogram import BUCKETS, bucket_of, percentiles, value_of


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


def test_other_durations_count_in_the_outer_buckets():
    edges = bucket_of(durations(0, 1, 15, 2**44, 2**64 - 1)).tolist()
    assert edges == [0, 0, 0, BUCKETS - 1, BUCKETS - 1]


@pytest.mark.parametrize("q", [0, 1, 50, 90, 99, 100])
def test_percentiles_are_those_of_the_values(q):
    values = np.sort(np.random.default_rng(7).lognormal(9, 2, 10_000).astype(np.uint64) + 16)
    counts = np.bincount(bucket_of(values), minlength=BUCKETS)
    expected = int(np.percentile(values, q, method="inverted_cdf"))
    assert percentiles(counts[np.newaxis], q)[0] == pytest.approx(expected, rel=0.032)


def test_the_percentile_of_nothing_is_0():
    assert percentiles(np.zeros((1, BUCKETS), np.int64), 50) == [0]
