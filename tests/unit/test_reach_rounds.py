# SPDX-License-Identifier: Apache-2.0
"""What several scans of a running process prove."""

from __future__ import annotations

import numpy as np

from kwatch.model.reach import Reach
from kwatch.reach.block_table import SCANNED, from_file, to_file
from kwatch.reach.rounds import MAX_SCANS, QUIET_SCANS, Rounds

HELD, LOST, WITH_IT = Reach.REACHABLE, Reach.DEFINITE, Reach.INDIRECT


def table(**classes):
    """Blocks a, b, ... of 10, 20, ... bytes, with their classes."""
    rows = [
        (0x1000 * (ord(name) - 96), 10 * (ord(name) - 96), reach, False, True)
        for name, reach in sorted(classes.items())
    ]
    return np.array(rows, SCANNED)


def rounds(*scans):
    taken = Rounds()
    for scan in scans:
        taken.add(scan)
    return taken


def classes(taken):
    return [Reach(value).name for value in taken.result()["reach"].tolist()]


def test_one_scan_settles_it_if_nothing_is_lost():
    assert rounds(table(a=HELD, b=HELD)).are_settled
    assert rounds(table()).are_settled
    assert not rounds(table(a=HELD, b=LOST)).are_settled


def test_what_was_found_once_is_held():
    taken = rounds(table(a=LOST, b=LOST), table(a=LOST, b=HELD), table(a=LOST, b=LOST))
    assert classes(taken) == ["DEFINITE", "REACHABLE"]


def test_the_kernel_is_asked_only_about_what_would_be_lost_otherwise():
    lost, held = table(a=LOST), table(a=HELD)
    taken = rounds(*[lost] * (QUIET_SCANS - 1))
    assert not taken.ask_kernel
    taken.add(lost)
    assert taken.ask_kernel
    assert not taken.are_settled
    taken.add(held)
    assert (taken.are_settled, classes(taken)) == (True, ["REACHABLE"])
    assert taken.ask_kernel  # in all that follow
    assert not rounds(*[held] * 9).ask_kernel


def test_only_quiet_scans_in_a_row_settle_it():
    lost, less = table(a=LOST, b=WITH_IT), table(a=LOST, b=HELD)
    taken = rounds(lost, *[lost] * (QUIET_SCANS - 1), less, *[less] * (QUIET_SCANS - 1))
    assert not taken.are_over
    taken.add(less)
    assert taken.are_settled
    assert classes(taken) == ["DEFINITE", "REACHABLE"]


def test_a_block_that_was_allocated_again_is_another():
    larger = table(a=LOST)
    larger["size"] += 1
    assert classes(rounds(table(a=LOST), larger)) == ["REACHABLE"]


def test_a_block_that_is_gone_is_not_lost():
    taken = rounds(table(a=LOST, b=LOST), table(b=LOST))
    assert classes(taken) == ["DEFINITE"]
    assert classes(rounds(table(a=LOST), table(b=LOST))) == ["REACHABLE"]


def test_rounds_end_even_if_they_never_settle():
    taken = Rounds()
    for number in range(1, MAX_SCANS + 1):
        assert not taken.are_over
        rows = [(16 * i, 8, LOST, False, True) for i in range(number, 2 * MAX_SCANS)]
        taken.add(np.array(rows, SCANNED))
    assert taken.are_over
    assert not taken.are_settled


def test_tables_travel_in_files():
    given = table(a=LOST, b=HELD)
    assert np.array_equal(from_file(to_file(given), SCANNED), given)
    assert len(from_file(to_file(table()), SCANNED)) == 0
