# SPDX-License-Identifier: Apache-2.0
"""Scans a process until it is certain what is lost, for a command that does nothing else."""

from __future__ import annotations

import time
from typing import NamedTuple

from kwatch.model.reach import HeapReach
from kwatch.reach.block_table import Table
from kwatch.reach.live_scan import LiveScan, scan_live
from kwatch.reach.rounds import Rounds
from kwatch.reach.stopped import stopped
from kwatch.reach.summary import with_amounts

_MIN_PAUSE_S = 0.01
_STOPS = 3


class Settled(NamedTuple):
    """`table`: the blocks, of dtype SCANNED. `last`: the last scan, for `kwatch.reach.holders`."""

    reach: HeapReach
    table: Table
    last: LiveScan


def settle(pid: int) -> Settled:
    """Raises OSError if the process cannot be read, LookupError if it has ended."""
    rounds, seconds = Rounds(), 0.0
    while True:
        last = scan_live(pid, None, rounds.ask_kernel)
        rounds.add(last.table(), last.blind_threads)
        seconds += last.seconds
        if rounds.are_over:
            return _settled(rounds, last, seconds)
        _pause(last)


def settle_stopped(pid: int) -> Settled:
    """The same while all its threads are stopped. It runs between the scans, if there are several.

    One scan is enough if nothing is lost. A thread that is stopped within malloc or free can hold a
    block by the address of its header, which is no pointer to it, so a block is lost if it is lost
    in three. Raises KwatchError, too, if the process cannot be stopped.
    """
    rounds, seconds, stopped_s = Rounds(is_still=True), 0.0, 0.0
    while True:
        with stopped(pid) as stop:
            last = scan_live(pid, None, rounds.ask_kernel, stop.threads)
        rounds.add(last.table(), last.blind_threads)
        seconds += last.seconds
        stopped_s += stop.seconds
        if rounds.scans == _STOPS or not rounds.has_candidates:
            return _settled(rounds, last, seconds, stopped_s)
        _pause(last)


def _pause(last: LiveScan) -> None:
    """The process gets as much time as the scans."""
    time.sleep(max(_MIN_PAUSE_S, last.seconds))


def _settled(rounds: Rounds, last: LiveScan, seconds: float, stopped_s: float = 0.0) -> Settled:
    table = rounds.result()
    reach = HeapReach(
        scans=rounds.scans,
        seconds=round(seconds, 6),
        stopped_s=round(stopped_s, 6),
        is_walked=last.is_walked,
        is_settled=rounds.are_settled,
        blind_threads=rounds.blind_threads,
        unreadable=last.unreadable,
        unwalked=last.unwalked,
    )
    return Settled(with_amounts(reach, table), table, last)
