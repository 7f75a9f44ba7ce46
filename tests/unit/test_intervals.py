# SPDX-License-Identifier: Apache-2.0
"""Intervals against a model: a dictionary with an entry for each number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kwatch.system.intervals import Intervals, Range

SIZE = 40
BOUNDS = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))


@dataclass(frozen=True)
class Named:
    start: int
    end: int
    name: int

    def part(self, start: int, end: int) -> Named:
        return replace(self, start=start, end=end)


def check(intervals: Intervals[Named], names: dict[int, int]) -> None:
    items = list(intervals)
    assert len(intervals) == len(items)
    assert all(item.start < item.end for item in items)
    assert all(one.end <= other.start for one, other in pairwise(items))
    assert {n: item.name for item in items for n in range(item.start, item.end)} == names
    for number in range(-1, SIZE + 1):
        found = intervals.find(number)
        assert (found.name if found else None) == names.get(number)


@given(st.lists(st.tuples(BOUNDS, st.booleans()), max_size=20))
def test_every_number_has_the_interval_that_was_put_there_last(steps):
    intervals, names = Intervals[Named](), {}
    for name, ((start, end), is_put) in enumerate(steps):
        before = list(intervals)
        expected = [item for item in before if max(item.start, start) < min(item.end, end)]
        new = [Named(start, end, name)] if is_put else []
        assert intervals.overlapping(start, end) == expected
        assert intervals.replace(start, end, new) == expected
        for number in range(start, end):
            names.pop(number, None)
            if is_put:
                names[number] = name
        check(intervals, names)


def test_intervals_that_touch_the_range_are_the_same_objects_afterwards():
    intervals = Intervals[Range]()
    for start in (0, 10, 20):
        intervals.replace(start, start + 10, [Range(start, start + 10)])
    first, _, last = intervals
    assert intervals.replace(10, 20) == [Range(10, 20)]
    assert [id(item) for item in intervals] == [id(first), id(last)]


def test_a_hole_in_an_interval_makes_two():
    intervals = Intervals[Range]()
    intervals.replace(0, 10, [Range(0, 10)])
    assert intervals.replace(4, 6) == [Range(0, 10)]
    assert list(intervals) == [Range(0, 4), Range(6, 10)]


def test_a_copy_is_independent():
    intervals = Intervals[Range]()
    intervals.replace(0, 10, [Range(0, 10)])
    other = intervals.copy()
    other.replace(0, 5)
    intervals.clear()
    assert (list(intervals), list(other)) == ([], [Range(5, 10)])
    assert intervals.find(7) is None
    assert other.find(7) == Range(5, 10)
