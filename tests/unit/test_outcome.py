# SPDX-License-Identifier: Apache-2.0
"""The exit status from the verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kwatch.commands.watch.outcome import Outcome
from kwatch.errors import ExitCode
from kwatch.model.options import ReportOptions
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import HeapStats, Lost, Snapshot, Verdict

FINAL = Snapshot(
    *("final", "", 1.0, ProcessFacts(7, 1.0, "app", "/app"), HeapStats(), None, None, Lost()),
    verdict=None,
)


def status(verdict, **options):
    said = []
    outcome = Outcome(said.append, ReportOptions(**options))
    outcome.note([replace(FINAL, verdict=verdict)])
    return outcome.status(5), said


@pytest.mark.parametrize(
    ("verdict", "with_leak", "with_growth"),
    [
        (Verdict.LEAK, ExitCode.LEAK, ExitCode.LEAK),
        (Verdict.GROWING, 5, ExitCode.LEAK),
        (Verdict.CLEAN, 5, 5),
        (Verdict.UNSURE, 5, 5),
    ],
)
def test_which_verdicts_fail(verdict, with_leak, with_growth):
    assert status(verdict)[0] == 5
    assert status(verdict, fail_on_leak=True)[0] == with_leak
    assert status(verdict, fail_on_growth=True)[0] == with_growth


def test_what_could_not_be_judged_is_said():
    assert status(Verdict.UNSURE)[1] == []
    [said] = status(Verdict.UNSURE, fail_on_growth=True)[1]
    assert said == (
        "kwatch: --fail-on-growth: no leak and no growth found, but 1 process could not be judged"
    )
