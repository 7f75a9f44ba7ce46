# SPDX-License-Identifier: Apache-2.0
"""The kernel lets grace periods pass when it is asked to."""

from __future__ import annotations

from harness.lines import DEADLINE

from kwatch.tables.grace_period import GracePeriods, Retired


def test_grace_periods_pass():
    periods = GracePeriods()
    try:
        for _ in range(3):  # also where the map has its value already
            periods.begin().result(DEADLINE)
    finally:
        periods.close()


def test_what_is_given_up_is_released():
    periods = GracePeriods()
    try:
        retired = Retired(periods)
        retired.add("thing")
        assert retired.released() == []
        assert retired._period is not None
        retired._period.result(DEADLINE)
        assert retired.released() == ["thing"]
    finally:
        periods.close()
