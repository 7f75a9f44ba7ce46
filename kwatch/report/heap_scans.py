# SPDX-License-Identifier: Apache-2.0
"""Has the heaps of traced processes scanned, while kwatch goes on reading events."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from kwatch.aggregate.block_classes import BlockClasses
from kwatch.model.reach import HeapReach
from kwatch.processes.heap_scan import HeapScan
from kwatch.processes.process import Process
from kwatch.reach.block_table import KNOWN, Table
from kwatch.reach.scanner import Answer, Scanner
from kwatch.reach.summary import with_amounts
from kwatch.session.session import now_ns

_MIN_PAUSE_S = 0.01  # between scans; a pause is at least as long as the scan before it
_TIMEOUT_S = 60.0  # of one scan: by then the scanner is stuck
_MAX_EXPECTED_S = 1.0  # of a scan for a report that is one of many
_SECONDS_PER_BYTE, _SECONDS_PER_BLOCK = 0.4e-9, 1e-6  # docs/reachability.md, what a scan costs
_INTERRUPT_S = 2.0  # limit for a scan that something else waits for
_REST = 10  # snapshots: scans take one second in so many, but for the first of each process


class HeapScans:
    """Takes one process after another through the rounds of its scans.

    The result is the `heap_scan` of each process.
    """

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._waiting: deque[Process] = deque()
        self._process: Process | None = None
        self._first_ns = self._last_ns = 0
        self._seconds = 0.0
        self._asks_at = math.inf
        self._answers_by = math.inf
        self._budget_s = 0.0  # what the scans for snapshots may take; negative if they took more
        self._saved_until = time.monotonic()

    def begin(self, processes: Iterable[Process], may_skip: bool) -> None:
        """Scans the heaps of these processes, after those that are waiting.

        `may_skip`: processes keep the result of an earlier scan if scans have taken more than their
        share of the time, and those whose scan would take long are not scanned.
        """
        self._waiting += self._affordable(processes) if may_skip else filter(_needs_scan, processes)
        if self._process is None:
            self._next_process()

    def _affordable(self, processes: Iterable[Process]) -> Iterator[Process]:
        """Those that were never scanned, then those whose scan is the oldest."""
        now = time.monotonic()
        self._budget_s += (now - self._saved_until) / _REST
        self._budget_s = min(self._budget_s, _MAX_EXPECTED_S)
        self._saved_until = now
        left_s = self._budget_s
        for process in sorted(filter(_needs_scan, processes), key=_scanned_at):
            scan, expected_s = process.heap_scan, _expected_seconds(process)
            if expected_s <= _MAX_EXPECTED_S and (scan is None or left_s > 0):
                left_s -= scan.reach.seconds if scan is not None else expected_s
                yield process

    @property
    def are_done(self) -> bool:
        return self._process is None

    @property
    def next_step(self) -> float:
        """The time.monotonic() at which `step` has something to do, unless an answer arrives."""
        return min(self._asks_at, self._answers_by)

    def step(self) -> None:
        """Takes the answer of the scanner, and asks for the next scan when it is due."""
        process = self._process
        if process is None:
            return
        if self._answers_by < math.inf:
            if self._scanner.has_answer:
                self._take(process, self._scanner.answer())
            elif time.monotonic() >= self._answers_by:
                self._scanner.stop()
                self._fail(process, "it took too long")
        if self._process is not None and time.monotonic() >= self._asks_at:
            self._ask(self._process)

    def drop(self, reason: str) -> None:
        """Gives up the scans that are not done; `reason` is their error."""
        if self._answers_by < math.inf:
            self._scanner.stop()
        for process in (self._process, *self._waiting):
            if process is not None and reason:
                self._fail(process, reason)
        self._waiting.clear()
        self._next_process()

    def forget(self, process: Process) -> None:
        """A process that has ended is not scanned any more; the scanner is free."""
        if process in self._waiting:
            self._waiting.remove(process)
        if self._process is process:
            if self._answers_by < math.inf:
                self._scanner.answer()
            self._next_process()

    def interrupt(self) -> None:
        """Something else needs the scanner now: the scans of the process begin again later."""
        if self._process is None:
            return
        if self._answers_by < math.inf:
            if self._scanner.wait(_INTERRUPT_S):
                self._scanner.answer()
            else:
                self._scanner.stop()
        self._waiting.appendleft(self._process)
        self._next_process()

    def _next_process(self) -> None:
        self._process = self._waiting.popleft() if self._waiting else None
        self._first_ns, self._seconds = 0, 0.0
        self._asks_at = 0.0 if self._process is not None else math.inf
        self._answers_by = math.inf

    def _ask(self, process: Process) -> None:
        if process.facts.exited:
            self._next_process()
            return
        self._last_ns = now_ns()
        is_first = not self._first_ns
        self._first_ns = self._first_ns or self._last_ns
        try:
            self._scanner.ask(process.pid, known_blocks(process), is_first)
        except OSError as error:
            self._fail(process, f"the heap scanner cannot be started: {error.strerror}")
            return
        self._asks_at, self._answers_by = math.inf, time.monotonic() + _TIMEOUT_S

    def _take(self, process: Process, answer: Answer) -> None:
        self._answers_by = math.inf
        if answer.error:
            self._fail(process, answer.error)
            return
        self._seconds += answer.seconds
        self._budget_s -= answer.seconds
        if answer.table is None:
            self._asks_at = time.monotonic() + max(_MIN_PAUSE_S, answer.seconds)
            return
        self._end(process, heap_scan(answer, self._seconds, self._first_ns, self._last_ns))

    def _fail(self, process: Process, reason: str) -> None:
        """What an earlier scan found lost is still lost; all else may have changed since."""
        earlier = process.heap_scan or HeapScan(HeapReach())
        self._end(process, replace(earlier, reach=replace(earlier.reach, error=reason)))

    def _end(self, process: Process, scan: HeapScan) -> None:
        if not process.facts.exited:
            process.heap_scan = scan
        self._next_process()


def _needs_scan(process: Process) -> bool:
    return not process.facts.exited and has_blocks(process)


def _scanned_at(process: Process) -> int:
    return process.heap_scan.ended_ns if process.heap_scan is not None else 0


def has_blocks(process: Process) -> bool:
    """Whether its heap has to be scanned: something may be outstanding."""
    if process.heap is None or process.shares:
        return False
    saw_all = process.from_exec and not process.coverage.own_gap
    return process.heap.live_count > 0 or not saw_all


def _expected_seconds(process: Process) -> float:
    """How long one scan takes, about."""
    usage, heap = process.usage.last, process.heap
    memory = usage.anonymous + usage.shared if usage is not None else 0
    blocks = heap.live_count if heap is not None else 0
    return memory * _SECONDS_PER_BYTE + blocks * _SECONDS_PER_BLOCK


def heap_scan(answer: Answer, seconds: float, first_ns: int, last_ns: int) -> HeapScan:
    """The result of the scans that ended with an answer that has a table.

    They took place from `first_ns` to `last_ns`, on the clock of the events.
    """
    table = answer.table
    if table is None:
        raise ValueError("the scans have not ended")
    classes = BlockClasses(
        np.ascontiguousarray(table["address"]),
        np.ascontiguousarray(table["reach"]),
        first_ns,
        last_ns,
        np.ascontiguousarray(table["leader"]),
    )
    reach = HeapReach(
        scans=answer.scans,
        seconds=round(seconds, 6),
        is_walked=answer.is_walked,
        is_settled=answer.is_settled,
        blind_threads=answer.blind_threads,
        unreadable=answer.unreadable,
        unwalked=answer.unwalked,
    )
    return HeapScan(with_amounts(reach, table), classes, time.monotonic_ns())


def known_blocks(process: Process) -> Table | None:
    """The outstanding blocks of a process, for the scanner."""
    if process.heap is None:
        return None
    blocks = process.heap.live_blocks()
    table = np.empty(len(blocks.addresses), KNOWN)
    table["address"], table["size"] = blocks.addresses, blocks.sizes
    return table
