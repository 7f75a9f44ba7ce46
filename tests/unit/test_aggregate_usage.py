# SPDX-License-Identifier: Apache-2.0
"""Growth of what a process uses, from readings."""

from __future__ import annotations

import pytest

from kwatch.aggregate.trend import Trend
from kwatch.aggregate.usage import UsageAccount
from kwatch.model.usage import Usage


def account(*readings):
    """From (anonymous, descriptors) of each reading; None is an exec."""
    usage = UsageAccount()
    for reading in readings:
        usage.exec() if reading is None else usage.add(Usage(reading[0], 0, reading[1]))
    return usage.anonymous_growth, usage.descriptor_growth


def test_growth_counts_from_the_lowest_reading():
    assert account() == (0, 0)
    assert account((50, 9)) == (0, 0)
    assert account((50, 9), (20, 4), (60, 7)) == (40, 3)


def test_an_exec_starts_without_memory_and_keeps_descriptors():
    assert account((50, 9), None) == (0, 0)
    assert account((50, 9), None, (30, 12)) == (30, 3)


def test_descriptors_that_cannot_be_counted_have_not_grown():
    assert account((50, None), (60, None)) == (10, 0)
    assert account((50, None), (60, 5), (60, 8)) == (10, 3)


@pytest.mark.parametrize(
    ("samples", "growth"),
    [
        (range(7), 0),
        (range(100), 26),
        ([5] * 100, 0),
        ([0, 5, 9, *[10] * 20], 0),
        ([1, 9] * 50, 0),
        (range(100, 0, -1), 0),
        (range(0, 100_000, 100), 25_000),
    ],
    ids=["few", "rising", "level", "reached", "swinging", "falling", "many"],
)
def test_a_trend_is_what_stays_above_the_first_half(samples, growth):
    trend = Trend()
    for sample in samples:
        trend.add(sample)
    assert trend.growth == pytest.approx(growth, rel=0.1)
