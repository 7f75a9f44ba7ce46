# SPDX-License-Identifier: Apache-2.0
"""What holds the blocks of a function, summed and shown."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kwatch.aggregate.blocks import Blocks
from kwatch.model.frame import Frame
from kwatch.model.holders import HolderReport, HolderSum
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount
from kwatch.reach.holder_sums import HOLDING
from kwatch.report.holder_reports import blocks_by_stack, stacks_with
from kwatch.report.unsymbolized import NoSymbols
from kwatch.sinks.holders import sums_json_line, sums_text
from kwatch.symbols.stack import Stack

APP = ProcessFacts(7, 1.0, "app", "/bin/app")


@pytest.mark.parametrize(
    ("function", "expected"), [("fill", [1]), ("ns::fill", [2]), ("main", [1, 2]), ("fil", [])]
)
def test_stacks_are_chosen_by_the_name_of_a_function(function, expected):
    """Of C++ without its arguments."""
    calls = {1: ("malloc", "fill", "main"), 2: ("malloc", "ns::fill(int)", "main")}
    stacks = {
        one: Stack(frames=tuple(Frame(0, name) for name in names)) for one, names in calls.items()
    }
    assert stacks_with(function, stacks, NoSymbols()) == expected


def test_blocks_that_hold_others_are_summed_by_their_stack():
    columns = [[0x10, 0x20, 0x30], [8, 8, 8], [5, 5, 6], [0, 0, 0]]
    blocks = Blocks(*(np.array(column, np.uint64) for column in columns))
    rows = [(0x10, 2, 20), (0x20, 1, 10), (0x30, 1, 7), (0x40, 3, 9)]
    found = blocks_by_stack(blocks, np.array(rows, HOLDING))
    assert found == {5: Amount(3, 30), 6: Amount(1, 7), None: Amount(3, 9)}


REPORT = HolderReport(
    *("2026-01-31T12:00:00.000Z", APP, "fill", 2, Amount(48, 9600)),
    held_by=(
        HolderSum("root", "cache (app)", 30, 6000),
        HolderSum("block", "open_session (app.c:7)", 12, 2400),
        HolderSum("root", "the stack of thread 7", 1, 200),
    ),
    unheld=Amount(5, 1000),
)


def test_each_holder_has_a_line():
    assert sums_text(REPORT, top=2).splitlines() == [
        "app[7]: 48 blocks (9.4 KiB) of 2 stacks with fill are held by",
        "    5.9 KiB     30 blocks  cache (app)",
        "    2.3 KiB     12 blocks  blocks from open_session (app.c:7)",
        "      200 B       1 block  1 more",
        "     1000 B      5 blocks  nothing that was found",
        "",
    ]


def test_nothing_to_hold_and_failures_are_told():
    none = HolderReport("", APP, "fill")
    assert sums_text(none, 10) == "app[7]: no outstanding block is from fill\n\n"
    failed = HolderReport("", APP, "fill", error="it has ended")
    assert sums_text(failed, 10).startswith("app[7]: what holds the blocks of fill is not known: ")


def test_the_json_has_the_documented_keys():
    found = json.loads(sums_json_line(REPORT))
    assert found["kind"] == "who"
    assert found["found"] == {"blocks": 48, "bytes": 9600}
    assert found["held_by"][0] == {
        **{"kind": "root", "name": "cache (app)"},
        **{"blocks": 30, "bytes": 6000},
    }
    assert (found["unheld"], found["error"]) == ({"blocks": 5, "bytes": 1000}, "")
