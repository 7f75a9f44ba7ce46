# SPDX-License-Identifier: Apache-2.0
"""How tools/confusion judges a verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from confusion.service import Service
from confusion.services import HEALTHY, LEAKING
from confusion.spoken import spoken
from confusion.table import Row, sums
from confusion.watch import Result


def row(leaks, verdict, reason="7 blocks from lose (a.c:3) are still not freed"):
    service = Service("name", leaks, spoken("growth.c"), "lose|anonymous" if leaks else "")
    return Row(service, Result(verdict, reason, 1, 2, 9.0) if verdict else None)


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (row(False, "clean"), "right"),
        (row(False, "none"), "right"),
        (row(False, "leak"), "wrong"),
        (row(False, "growing"), "wrong"),
        (row(False, "unsure"), "unsure"),
        (row(True, "leak"), "right"),
        (row(True, "growing"), "right"),
        (row(True, "leak", "1 block from elsewhere"), "elsewhere"),
        (row(True, "growing", "1 block from elsewhere"), "elsewhere"),
        (row(True, "clean"), "wrong"),
        (row(True, "none"), "wrong"),
        (row(True, "unsure"), "unsure"),
        (row(True, ""), "failed"),
    ],
)
def test_a_verdict_is_right_if_it_is_the_truth(judged, expected):
    assert judged.judgement == expected


def test_the_sums_count_each_row_once():
    rows = [row(False, "clean"), row(False, "leak"), row(True, "leak", "elsewhere"), row(True, "")]
    assert sums(rows).splitlines() == [
        "healthy: clean 1, none 0, leak 1, growing 0, unsure 0, failed 0",
        "leaking: clean 0, none 0, leak 1, growing 0, unsure 0, failed 1",
        "leaking, but another reason was given: 1",
    ]


def test_there_are_sixteen_of_each():
    assert [len(HEALTHY), len(LEAKING)] == [16, 16]
    assert not any(service.leaks for service in HEALTHY)
    assert all(service.leaks and service.fault for service in LEAKING)
