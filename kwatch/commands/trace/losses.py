# SPDX-License-Identifier: Apache-2.0
"""Tells of lost calls, when they are lost and at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from kwatch.model.losses import LOSS_CAUSES, cures
from kwatch.model.snapshot import Lost
from kwatch.session.losses import LossCounters

_EVERY_S = 1.0


class LossNotices:
    """`say` prints a message."""

    def __init__(self, counters: LossCounters, say: Callable[[str], None]) -> None:
        self._counters = counters
        self._say = say
        self._ended: Counter[str] = Counter()  # what processes that have ended have lost
        self._told = 0
        self._next = time.monotonic() + _EVERY_S

    def keep(self, pid: int) -> None:
        """Takes over the losses of a process that ends: its counters are removed."""
        self._ended.update(self._counters.of(pid))

    def tell_new(self) -> None:
        """Looks once a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        lost = self.lost()
        if lost.events > self._told:
            self._say(f"kwatch: lost {lost.events - self._told:,} more: {_listed(lost)} so far")
            self._told = lost.events

    def tell_all(self, noun: str) -> None:
        """At the end, when all events have been delivered. `noun`: what may not be complete."""
        lost = self.lost()
        if lost.events:
            advice = "".join(f"; {cure}" for cure in cures(lost))
            self._say(f"kwatch: the {noun} is not complete: {_listed(lost)}{advice}")

    def lost(self) -> Lost:
        """Since the start, of all processes."""
        causes = self._ended.copy()
        for of_process in self._counters.read().values():
            causes.update(of_process)
        return Lost(sum(causes.values()), dict(causes))


def _listed(lost: Lost) -> str:
    in_order = [name for name in LOSS_CAUSES if lost.by_cause.get(name)]
    return ", ".join(f"{lost.by_cause[name]:,} {name}" for name in in_order)
