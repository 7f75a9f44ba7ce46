# SPDX-License-Identifier: Apache-2.0
"""Simulated programs with a known truth, as `make growth` judges them."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from growth.kinds import HEALTHY, LEAKS
from growth.table import DURATIONS, judge

from kwatch.model.growth import GrowthKind

SEEDS = range(2)


@cache
def judgements(kinds, is_meant):
    return list(_judgements(kinds, is_meant))


def _judgements(kinds, is_meant):
    for kind in kinds:
        for name, seconds, every in DURATIONS:
            if is_meant(kind, seconds):
                for seed in SEEDS:
                    yield kind.name, name, judge(kind, seed, seconds, every)


def always(kind, seconds):
    return True


def test_no_healthy_program_grows():
    found = judgements(HEALTHY, always)
    assert [each for each in found if each[2][0] is GrowthKind.GROWING] == []


def test_every_leak_is_found_where_that_is_promised():
    found = judgements(LEAKS, lambda kind, seconds: seconds >= kind.found_after_s)
    assert len(found) > 70
    assert [each for each in found if each[2][0] is not GrowthKind.GROWING] == []


def test_without_ages_only_a_load_that_rises_is_taken_for_growth():
    found = judgements(HEALTHY, always)
    grows = {name for name, _, kinds in found if kinds[1] is GrowthKind.GROWING}
    assert grows <= {"load that rises"}
