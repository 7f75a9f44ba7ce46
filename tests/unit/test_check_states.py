# SPDX-License-Identifier: Apache-2.0
"""What is known of a checked process when its releases are judged."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from kwatch.commands.check.process_states import ProcessStates
from kwatch.model.snapshot import Lost
from kwatch.probes.coverage import Coverage
from kwatch.session.loss_periods import LATE_NS

PROCESS = SimpleNamespace(
    pid=1, coverage=Coverage(1), memory=None, accounts=SimpleNamespace(checks=None)
)


class Losses:
    """What has been lost so far."""

    def __init__(self):
        self.by_cause = {}

    def of_heap(self, pid):
        return Lost(sum(self.by_cause.values()), self.by_cause)


@pytest.mark.parametrize(
    ("cause", "is_gap"), [("heap_ring_full", False), ("shared_heap_unseen", True)]
)
def test_a_loss_has_a_period_but_a_shared_heap_stays_unseen(cause, is_gap):
    losses = Losses()
    states = ProcessStates(losses, tells_functions=True)
    assert (states.of(PROCESS).losses, states.of(PROCESS).gap) == ([], False)
    losses.by_cause = {cause: 1}
    after = [states.of(PROCESS) for _ in range(2)]
    assert [len(each.losses) for each in after] == [1, 1]
    assert [each.gap for each in after] == [is_gap, is_gap]


@pytest.mark.parametrize(
    ("cause", "is_late"), [("heap_ring_full", False), ("heap_call_abandoned", True)]
)
def test_what_a_call_has_hidden_is_counted_late(cause, is_late):
    losses = Losses()
    states = ProcessStates(losses, tells_functions=True)
    states.of(PROCESS)
    read_ns = time.monotonic_ns()
    losses.by_cause = {cause: 1}
    ((start, end),) = states.of(PROCESS).losses
    assert end >= read_ns
    assert (start < read_ns - LATE_NS // 2) is is_late
