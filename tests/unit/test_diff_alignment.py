# SPDX-License-Identifier: Apache-2.0
"""Sequences are aligned where they agree, in a time that grows with their length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.recording.diff.alignment import WINDOWS, align

NUMBERS = st.lists(st.integers(0, 4), max_size=60)


def blocks(first, second):
    return list(align(np.array(first, np.int64), np.array(second, np.int64)))


def common(first, second):
    """How many numbers are aligned."""
    return sum(block.end - block.start for block in blocks(first, second) if block.same)


@given(NUMBERS, NUMBERS)
def test_the_blocks_are_both_sequences(first, second):
    found = blocks(first, second)
    at = other = 0
    for number, block in enumerate(found):
        assert (block.start, block.other) == (at, other)
        if block.same:
            assert first[block.start : block.end] == second[block.other : block.stop]
        assert block.end + block.stop > at + other
        assert number == 0 or block.same != found[number - 1].same
        at, other = block.end, block.stop
    assert (at, other) == (len(first), len(second))


@given(NUMBERS)
def test_a_sequence_agrees_with_itself(numbers):
    assert common(numbers, numbers) == len(numbers)


@pytest.mark.parametrize(
    ("first", "second", "aligned"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1, 2, 3, 4], [1, 2, 9, 3, 4], 4),
        ([1, 2, 9, 3, 4], [1, 2, 3, 4], 4),
        ([1, 2, 7, 3, 4], [1, 2, 8, 3, 4], 4),
        ([1, 2, 3], [4, 5, 6], 0),
        ([5, 1, 2, 3], [1, 2, 3, 5], 3),
        ([1, 2, 3, 4, 9], [1, 2, 3, 4, 8], 4),
    ],
)
def test_what_is_in_one_only(first, second, aligned):
    assert common(first, second) == aligned


@given(st.lists(st.integers(0, 1000), min_size=2, unique=True), st.integers(0), st.integers(1, 50))
def test_numbers_that_are_left_out(numbers, start, length):
    """All others are aligned."""
    start %= len(numbers)
    rest = numbers[:start] + numbers[start + length :]
    assert common(numbers, rest) == common(rest, numbers) == len(rest)


@pytest.mark.parametrize("length", [*WINDOWS[:2], WINDOWS[2] - 2])
def test_a_gap_that_is_longer_than_the_first_window(length):
    first = list(range(length + 1000))
    assert common(first, first[length:]) == 1000


def test_sequences_without_anything_in_common():
    found = blocks([1] * 100_000, [2] * 100_000)
    assert [(block.same, block.end, block.stop) for block in found] == [(False, 100_000, 100_000)]
