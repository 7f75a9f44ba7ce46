# SPDX-License-Identifier: Apache-2.0
"""The exit status with --fail-on-leak and --fail-on-growth, from the final verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kwatch.errors import ExitCode
from kwatch.model.options import ReportOptions
from kwatch.model.snapshot import FAULTS, Snapshot, Verdict
from kwatch.units import counted


class Outcome:
    """Counts verdicts. `say` writes a line for people."""

    def __init__(self, say: Callable[[str], None], options: ReportOptions) -> None:
        self._say = say
        self._options = options
        self._failing = FAULTS if options.fail_on_growth else (Verdict.LEAK,)
        self._has_failed = False
        self._unsure = 0

    def note(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            self._has_failed |= snapshot.verdict in self._failing
            is_judged = snapshot.heap is not None and snapshot.kind == "final"
            self._unsure += is_judged and snapshot.verdict in (None, Verdict.UNSURE)

    def status(self, status: int) -> int:
        """The exit status. `status`: without the verdicts."""
        if not self._options.needs_verdict:
            return status
        if self._has_failed:
            return ExitCode.LEAK
        if self._unsure:
            unsure = counted(self._unsure, "process", "processes")
            nothing = "--fail-on-leak: no leak found"
            if self._options.fail_on_growth:
                nothing = "--fail-on-growth: no leak and no growth found"
            self._say(f"kwatch: {nothing}, but {unsure} could not be judged")
        return status
