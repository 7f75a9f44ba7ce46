# SPDX-License-Identifier: Apache-2.0
"""When events of a heap may have been lost."""

from __future__ import annotations

import time

import pytest

from kwatch.model.snapshot import Lost
from kwatch.session.loss_periods import LossPeriods


class Losses:
    """What has been lost so far."""

    def __init__(self):
        self.by_cause = {}

    def refresh_of(self, pid):
        """They are always fresh."""

    def of_heap(self, pid):
        return Lost(sum(self.by_cause.values()), self.by_cause)


@pytest.mark.parametrize(
    ("cause", "after"), [("heap_ring_full", False), ("shared_heap_unseen", True)]
)
def test_a_time_without_losses(cause, after):
    losses, times = Losses(), [time.monotonic_ns()]
    periods = LossPeriods(losses)
    for count in (0, 0, 1, 2, 2):
        losses.by_cause = {cause: count} if count else {}
        periods.read(1)
        times.append(time.monotonic_ns())
    start, first, second, _, lost, end = times
    assert periods.has_any(start, first) is after
    assert periods.has_any(first, second)
    assert periods.has_any(second, lost)
    assert periods.has_any(lost, end) is after
    assert len(periods.periods) == 1
