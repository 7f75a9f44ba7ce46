# SPDX-License-Identifier: Apache-2.0
"""Growth of what a process uses, from readings."""

from __future__ import annotations

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
