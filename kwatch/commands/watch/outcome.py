# SPDX-License-Identifier: Apache-2.0
"""The exit status with --fail-on-leak, from the final verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kwatch.errors import ExitCode
from kwatch.model.snapshot import Snapshot, Verdict
from kwatch.units import counted


class Outcome:
    """Counts verdicts. `say` writes a line for people."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._found_leak = False
        self._unsure = 0

    def note(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            self._found_leak |= snapshot.verdict is Verdict.LEAK
            is_judged = snapshot.heap is not None and snapshot.kind == "final"
            self._unsure += is_judged and snapshot.verdict in (None, Verdict.UNSURE)

    def status(self, status: int, nothing_traced: bool) -> int:
        """The exit status with --fail-on-leak.

        `status`: the exit status without it. `nothing_traced`: no process was traced.
        """
        if self._found_leak:
            return ExitCode.LEAK
        if self._unsure:
            unsure = counted(self._unsure, "process", "processes")
            self._say(f"kwatch: --fail-on-leak: no leak found, but {unsure} could not be judged")
        return ExitCode.FAILED if nothing_traced else status
