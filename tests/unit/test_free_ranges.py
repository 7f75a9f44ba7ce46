# SPDX-License-Identifier: Apache-2.0
"""Runs of numbers are handed out once, and joined when they are freed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwatch.tables.free_ranges import FreeRanges

SIZE = 64


@given(st.lists(st.integers(1, 20), max_size=40), st.randoms(use_true_random=False))
def test_no_number_is_in_two_runs_and_all_can_be_freed(counts, random):
    ranges, taken = FreeRanges(SIZE), {}
    for count in counts:
        first = ranges.take(count)
        if first is None:
            free = [n for n in range(SIZE) if not any(f <= n < f + c for f, c in taken.items())]
            assert not any(set(range(n, n + count)) <= set(free) for n in free)
        else:
            run = set(range(first, first + count))
            assert not any(run & set(range(f, f + c)) for f, c in taken.items())
            assert max(run) < SIZE
            assert not ranges.is_free(first, first + count)
            taken[first] = count
        if taken and random.random() < 0.5:
            first = random.choice(list(taken))
            ranges.give_back(first, taken.pop(first))
    for first, count in taken.items():
        ranges.give_back(first, count)
    assert ranges.is_free(0, SIZE)
    assert ranges.take(SIZE) == 0
