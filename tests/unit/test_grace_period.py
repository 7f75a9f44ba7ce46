# SPDX-License-Identifier: Apache-2.0
"""What was given up is released when a grace period has passed that began after that."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from kwatch.kernel.grace_period import Retired


class Periods:
    """Those that have begun."""

    def __init__(self):
        self.begun = []

    def begin(self):
        self.begun.append(Future())
        return self.begun[-1]


def test_nothing_is_waited_for_without_need():
    periods = Periods()
    assert Retired(periods).released() == []
    assert periods.begun == []


def test_what_is_given_up_meanwhile_waits_for_the_next_period():
    periods = Periods()
    retired = Retired(periods)
    retired.add("first")
    assert retired.released() == []
    retired.add("second")
    assert retired.released() == []
    assert len(periods.begun) == 1
    periods.begun[0].set_result(None)
    assert retired.released() == ["first"]
    assert len(periods.begun) == 2
    periods.begun[1].set_result(None)
    assert retired.released() == ["second"]
    assert retired.released() == []


def test_an_error_releases_nothing():
    periods = Periods()
    retired = Retired(periods)
    retired.add("first")
    retired.released()
    periods.begun[0].set_exception(OSError(12, "no memory"))
    with pytest.raises(OSError, match="no memory"):
        retired.released()
