# SPDX-License-Identifier: Apache-2.0
"""The marks of a run: sets them, and reports what was allocated between two of them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kwatch.commands.watch.mark_requests import MarkRequests, Request
from kwatch.commands.watch.mark_writer import MarkWriter
from kwatch.commands.watch.messages import KEY_LINE
from kwatch.model.mark import Mark
from kwatch.processes.process import Process
from kwatch.report.heap_scans import HeapScans
from kwatch.report.reporter import Reporter
from kwatch.session.live import LiveSession
from kwatch.session.session import now_ns

_LOOK_S = 0.01  # between checks whether events and stacks from before a mark have been read
_TABLES_S = 1.0  # a report waits this long for the unwind tables of its stacks
_SCANS_S = 60.0  # it waits this long for the scans of the heaps,
_SYSTEM_SCANS_S = 2.0  # or this long system-wide


@dataclass(slots=True)
class _Due:
    """A mark whose report is to be written. `scans_by`: until then it waits for the scans."""

    mark: Mark
    request: Request
    scans_by: float | None = None


class Marks:
    """The reports are of kind `mark`. `say` prints a message."""

    def __init__(
        self,
        live: LiveSession,
        scans: HeapScans,
        reporter: Reporter,
        requests: MarkRequests,
        writer: MarkWriter,
        say: Callable[[str], None],
    ) -> None:
        self._live = live
        self._scans = scans
        self._reporter = reporter
        self._requests = requests
        self._writer = writer
        self._say = say
        self._last = Mark(0, 0)
        self._due: deque[_Due] = deque()
        live.watch(requests.fileno())

    def say_key(self) -> None:
        """Says how to set a mark on the terminal, if that is possible."""
        if self._requests.has_key:
            self._say(KEY_LINE)

    @property
    def next_step(self) -> float:
        """The time.monotonic() at which `step` has something to do, unless a request arrives."""
        if not self._due:
            return math.inf
        soon = time.monotonic() + _LOOK_S
        return soon if self._scans.are_done else max(soon, self._scans.next_step)

    @property
    def are_scanning(self) -> bool:
        """Whether the scans are those of a mark."""
        return bool(self._due) and self._due[0].scans_by is not None

    def step(self, may_scan: bool) -> None:
        """Sets the marks that were requested; writes a report when its scans are done.

        `may_scan`: nobody else has begun scans.
        """
        for request in self._requests.read():
            if self._concerns(request):
                self._set(request)
            else:
                request.answer(mark=0)
                request.end()
        if self._due and self._is_ready(self._due[0], may_scan):
            self._report(self._due.popleft())

    def finish(self) -> None:
        """At the end: writes the reports that wait, with the scans that there are."""
        while self._due:
            self._report(self._due.popleft())

    def _concerns(self, request: Request) -> bool:
        """Whether the process is traced that the request names, if any."""
        is_any = not request.pid or self._live.options.system_wide
        return is_any or request.pid in self._live.session.process_table

    def _set(self, request: Request) -> None:
        mark = Mark(self._last.number + 1, now_ns(), self._last.at_ns)
        self._last = mark
        self._say(f"kwatch: mark {mark.number} set")
        request.answer(mark=mark.number)
        if mark.since_ns:
            self._due.append(_Due(mark, request))
        else:
            request.end()

    def _is_ready(self, due: _Due, may_scan: bool) -> bool:
        """Whether the events until the mark have been read, and the heaps scanned."""
        session, now = self._live.session, time.monotonic()
        if self._live.tracer.stream.delivered_ns < due.mark.at_ns:
            return False
        if due.scans_by is None:
            if not may_scan or not self._scans.are_done:
                return False
            self._scans.begin(self._allocating(due.mark), may_skip=False)
            due.scans_by = now + (_SYSTEM_SCANS_S if session.options.system_wide else _SCANS_S)
        if not self._scans.are_done and now < due.scans_by:
            return False
        self._scans.drop("it took too long")
        tables_by = due.mark.at_ns / 1e9 + _TABLES_S
        return not session.has_unread_stacks or now >= tables_by

    def _allocating(self, mark: Mark) -> list[Process]:
        """The processes with outstanding blocks since the mark before."""
        table = self._live.session.process_table
        return [process for process in table if self._reporter.has_blocks_since(process, mark)]

    def _report(self, due: _Due) -> None:
        session = self._live.session
        session.losses.refresh()
        heaps = [process for process in session.process_table if process.heap is not None]
        snapshots = [self._reporter.marked(process, due.mark) for process in heaps]
        amounts = [one.snapshot.since_mark for one in snapshots]
        found = [amount for amount in amounts if amount is not None and amount.blocks]

        def answer() -> None:
            due.request.answer(
                blocks=sum(amount.blocks for amount in found),
                bytes=sum(amount.bytes for amount in found),
                processes=len(found),
            )
            due.request.end()

        self._writer.add(snapshots, answer)
