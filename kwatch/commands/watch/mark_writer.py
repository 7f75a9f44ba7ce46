# SPDX-License-Identifier: Apache-2.0
"""Writes the reports of marks when their stacks have names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kwatch.report.queue import Report, ReportQueue
from kwatch.report.unsymbolized import UnsymbolizedSnapshot
from kwatch.sinks.output import Output


class MarkWriter:
    """`largest`: how many processes are listed, those with the most bytes; None for all."""

    def __init__(self, reports: ReportQueue, output: Output, largest: int | None) -> None:
        self._reports = reports
        self._output = output
        self._largest = largest

    def add(self, snapshots: Sequence[UnsymbolizedSnapshot], written: Callable[[], None]) -> None:
        """Adds a report, and calls `written` when it can be read."""
        others = 0
        if self._largest is not None:
            found = [snapshot for snapshot in snapshots if snapshot.bytes_since_mark]
            found.sort(key=lambda snapshot: -snapshot.bytes_since_mark)
            snapshots, others = found[: self._largest], len(found[self._largest :])

        def write(report: Report) -> None:
            self._output.write_busiest(report, others)
            written()

        self._reports.add(snapshots, write)
