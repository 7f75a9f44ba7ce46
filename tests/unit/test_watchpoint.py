# SPDX-License-Identifier: Apache-2.0
"""One watchpoint in the programs that a process runs, one after another."""

from __future__ import annotations

import pytest

from kwatch.kernel.breakpoints import Access, Breakpoint
from kwatch.watchpoints import watchpoint
from kwatch.watchpoints.watchpoint import Watchpoint

WATCHED = Breakpoint(0x5000, 8, Access.WRITE)


class Map:
    def set(self, key, value):
        """Nothing reads it."""

    def delete(self, key):
        """Nothing is in it."""


class Events:
    who = "thread"

    def __init__(self, counted):
        self.counted = counted

    def move(self, watched):
        """It is always set."""

    def count(self):
        return self.counted

    def close(self):
        """Nothing is open."""


@pytest.mark.parametrize(
    ("counts", "missed"), [((5, 3), 2), ((5, None), 0), ((None, 9), 0), ((2, 3), 0)]
)
def test_hits_missed_in_several_programs(monkeypatch, counts, missed):
    """Six hits were recorded; None: the events cannot tell their number."""
    opened = iter(map(Events, counts))
    monkeypatch.setattr(watchpoint, "open_events", lambda *of: next(opened))
    watched = Watchpoint({"watched": Map()}, -1)
    for mm_id in (1, 2):
        watched.arm(1, mm_id, WATCHED)
        watched.drop()
    assert watched.missed(6) == missed
