# SPDX-License-Identifier: Apache-2.0
"""The run of `kwatch`: takes a snapshot at each interval, and ends with a final report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from kwatch.commands.watch.messages import (
    attached_line,
    every_heap_line,
    nobody_left_line,
    nothing_traced_line,
    uncalled_line,
    unmatched_line,
    untraced_line,
)
from kwatch.commands.watch.outcome import Outcome
from kwatch.errors import ExitCode, KwatchError
from kwatch.model.options import ReportOptions, TraceOptions
from kwatch.model.snapshot import FAULTS, EndedSummary
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.reach.scanner import Scanner
from kwatch.report.end_scans import EndScans
from kwatch.report.heap_scans import HeapScans
from kwatch.report.queue import Report, ReportQueue
from kwatch.report.reporter import Reporter
from kwatch.session.event_loop import EventLoop
from kwatch.session.live import LiveSession
from kwatch.session.session import now_ns
from kwatch.sinks.output import Output
from kwatch.system import stdio
from kwatch.system.mallopt import keep_freed_memory
from kwatch.system.signals import Signals
from kwatch.units import printable

if TYPE_CHECKING:
    from kwatch.commands.watch.mark_requests import MarkRequests
    from kwatch.commands.watch.marks import Marks

_TABLES_S = 1.0  # a snapshot waits this long for the unwind tables of its stacks
_LAST_TABLES_S = 30.0  # a final report waits this long
_LAST_EVENTS_S = 2.0  # system-wide, events never end: more are lost, and counted
_NAMES_S = 30.0  # limit for reading names after tracing has ended
_AWAIT_S = 2.0  # between checks for a signal while names are read
_LOOK_S = 0.01  # between checks whether the stacks of a due snapshot are complete
_SCANS_S = 60.0  # a report waits this long for the scans of the heaps,
_SYSTEM_SCANS_S = 2.0  # or this long system-wide
_END_SCAN_S = 2.0  # limit for the last scan of one of several processes


class Watch:
    """One run of `kwatch`. The constructor attaches; if it fails, it leaves nothing behind."""

    def __init__(
        self,
        traced: TraceOptions,
        report: ReportOptions,
        loader: Loader,
        signals: Signals,
        requests: MarkRequests | None = None,
    ) -> None:
        """`requests`: None if no marks can be set. Raises KwatchError."""
        self._traced = traced
        self._report = report
        self._signals = signals
        self._outcome = Outcome(_say, report)
        self._uncalled: set[str] = set()
        self._snapshot_waits = False  # the last snapshot waits for names
        self._snapshots = 0
        self._next = 0.0
        with ExitStack() as stack:
            stack.callback(loader.close)
            if requests is not None:
                stack.enter_context(closing(requests))
            self._output = stack.enter_context(closing(Output(report)))
            self._live = stack.enter_context(
                closing(LiveSession(traced, loader, signals, _say, self._process_ended))
            )
            session = self._live.session
            self._reporter = Reporter(session, self._live.tracer, report)
            self._reports = stack.enter_context(closing(ReportQueue(session.symbolizer_thread)))
            targets = self._live.tracer.targets
            scanner = stack.enter_context(closing(Scanner(targets.add_own, targets.remove_own)))
            self._scanner = scanner
            self._scans = HeapScans(scanner)
            cure = "" if traced.system_wide else "; --scan-at-exit keeps it until then"
            self._end_scans = EndScans(self._live.tracer.held, scanner, self._scans.interrupt, cure)
            if traced.holds_memory:
                self._end_scans.prepare(many=traced.follow or traced.scan_at_exit)
            self._scans_by: float | None = None  # until then the report that is due waits for them
            self._live.attach()
            self._live.watch(self._reports.fileno())
            self._live.watch(scanner.fileno())
            self._marks = self._marks_at(requests) if requests is not None else None
            self._opened = stack.pop_all()
        self._loop = EventLoop(self._live, signals, _say, report.duration_s)

    def _marks_at(self, requests: MarkRequests) -> Marks:
        from kwatch.commands.watch.mark_writer import MarkWriter
        from kwatch.commands.watch.marks import Marks

        largest = self._report.top if self._shows_busiest else None
        writer = MarkWriter(self._reports, self._output, largest)
        return Marks(self._live, self._scans, self._reporter, requests, writer, _say)

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError, or BrokenPipeError if the pipe is closed."""
        with self._opened:
            try:
                return self._watch()
            except (BrokenPipeError, KwatchError) as error:
                if self._live.launched is None:
                    self._check_report(error)
                    raise
                return self._loop.see_out(error, self._opened.close)

    def _check_report(self, error: BrokenPipeError | KwatchError) -> None:
        """Raises KwatchError if a signal ended the reader. One that ends like `head` has enough."""
        if self._signals.count and isinstance(error, BrokenPipeError):
            raise KwatchError(
                "the final report is lost: its reader ended before kwatch",
                "^C ends both; keep the report with `| tee -i FILE`, or with --output FILE",
            ) from error

    def _watch(self) -> int:
        keep_freed_memory()
        self._say_attached()
        self._next = time.monotonic() + self._report.interval_s
        self._loop.run(
            self._tick, self._live.tracer.held.take if self._traced.holds_memory else None
        )
        return self._finish()

    def _say_attached(self) -> None:
        tracees = self._live.tracees
        _say(attached_line(self._traced, tracees, self._live.launched))
        if self._traced.system_wide and self._traced.heap:
            _say(every_heap_line())
        if self._marks is not None:
            self._marks.say_key()
        # A command that is just launched has no children yet.
        was_running = bool(self._traced.pids or self._traced.comms)
        if self._traced.follow and was_running and (left := tracees.untraced_children()):
            _say(untraced_line(left))

    def _tick(self) -> float:
        """Writes the ready reports, takes a snapshot if one is due; returns the next deadline."""
        self._reports.write_ready()
        self._scans.step()
        if self._marks is not None:
            self._marks.step(may_scan=self._scans_by is None)
        if self._is_due() and self._may_scan and self._has_scans():
            self._next = max(self._next, time.monotonic()) + self._report.interval_s
            self._snapshots += 1
            is_last = self._snapshots == self._report.count
            if self._report.json or not is_last:  # in tables, the final report is the last
                self._live.take_sums()
                self._report_all("snapshot")
            if is_last:
                self._loop.stop()
        return min(self._next_tick(), self._marks.next_step if self._marks else math.inf)

    def _next_tick(self) -> float:
        now = time.monotonic()
        if self._snapshot_waits:
            return now + self._report.interval_s
        if self._scans_by is not None:
            return min(self._scans.next_step, self._scans_by)
        return self._next if now < self._next else now + _LOOK_S

    def _is_due(self) -> bool:
        """A snapshot waits briefly for stacks, and for the names of the snapshot before it."""
        late = time.monotonic() - self._next
        if late < 0 or self._snapshot_waits:
            return False
        return late >= _TABLES_S or not self._live.session.has_unread_stacks

    @property
    def _may_scan(self) -> bool:
        return self._marks is None or not self._marks.are_scanning

    def _has_scans(self) -> bool:
        """Whether the heaps have been scanned for the report that is due. Begins the scans."""
        now = time.monotonic()
        if self._scans_by is None:
            self._scans.begin(self._scannable(), may_skip=True)
            self._scans_by = now + (_SYSTEM_SCANS_S if self._traced.system_wide else _SCANS_S)
        if not self._scans.are_done and now < self._scans_by:
            return False
        self._scans.drop("it took too long")
        self._scans_by = None
        return True

    def _scannable(self) -> list[Process]:
        """The processes with a heap, those with the most live bytes first."""
        table = self._live.session.process_table
        heaps = [(each.heap.live_bytes, each) for each in table if each.heap is not None]
        return [process for _, process in sorted(heaps, key=lambda pair: -pair[0])]

    def _scan_last(self) -> None:
        """Scans the heaps of the processes that still run, while events go on being read."""
        has_patience = self._loop.patience("searching the memory of the processes for lost blocks")
        self._scans.drop("")
        self._scans.begin(self._scannable(), may_skip=False)
        limit_s = _SYSTEM_SCANS_S if self._traced.system_wide else _SCANS_S
        has_time = _limited(has_patience, limit_s)
        while not self._scans.are_done and has_time():
            ready = self._live.wait(min(max(self._scans.next_step - time.monotonic(), 0), _AWAIT_S))
            self._live.step(ready)
            self._scans.step()
        self._scans.drop("it took too long" if has_patience() else "kwatch was told to end")

    def _finish(self) -> int:
        if self._traced.heap:
            self._scan_last()
        if self._marks is not None:
            self._marks.finish()
        has_patience = self._loop.patience("reading the remaining events")
        if self._traced.system_wide:
            has_patience = _limited(has_patience, _LAST_EVENTS_S)
        self._live.finish(has_patience)
        self._reporter.note_calls_in_progress()
        limit_s = _TABLES_S if self._traced.system_wide else _LAST_TABLES_S
        self._live.session.read_stacks(limit_s if has_patience() else 0)
        self._report_all("final")
        self._await_names()
        if self._report.who is not None:
            self._report_holders(self._report.who)
        nothing_traced = bool(self._traced.comms) and not self._live.session.process_table.had_any
        if nothing_traced:
            _say(nothing_traced_line(self._traced.comms))
        for process in self._live.session.process_table:
            self._say_uncalled(process)
        for prefix in self._live.tracees.unmatched_prefixes:
            _say(unmatched_line(prefix))
        status = self._loop.status()
        if nothing_traced:
            return ExitCode.FAILED
        return self._outcome.status(status)

    def _report_holders(self, function: str) -> None:
        from kwatch.report.holder_reports import HolderReports

        thread = self._live.session.symbolizer_thread
        if thread is None:
            return
        has_patience = self._loop.patience("searching for what holds the blocks")
        reports = HolderReports(self._scanner, thread, has_patience)
        processes = list(self._live.session.process_table)
        for process in processes:
            self._output.write_holders(reports.report(process, function))
        if not processes:
            _say(nobody_left_line(function))

    def _say_uncalled(self, process: Process) -> None:
        """Once for each file."""
        if not self._traced.heap or self._traced.system_wide:
            return
        for shown, functions in self._live.tracees.uncalled(process):
            if shown not in self._uncalled:
                self._uncalled.add(shown)
                _say(uncalled_line(process, shown, functions))

    def _await_names(self) -> None:
        """Waits until all reports are written. Another signal or a time limit ends the naming."""
        has_patience = self._loop.patience("reading debug information for function names")
        until = time.monotonic() + (_LAST_EVENTS_S if self._traced.system_wide else _NAMES_S)
        while self._reports.waiting:
            self._reports.await_one(_AWAIT_S, self._signals.fileno())
            if not has_patience() or time.monotonic() >= until:
                self._reports.hurry()
            self._reports.write_ready()

    def _process_ended(self, process: Process) -> None:
        session = self._live.session
        if self._traced.system_wide and self._is_left_out(process):
            self._reporter.forget(process)
            return
        session.losses.refresh_of(process.pid)
        self._say_uncalled(process)
        # While kwatch waits, the other processes fill the rings.
        alone = len(session.process_table) == 1 and not self._traced.system_wide
        if process.heap is not None and process.facts.exited:
            self._scans.forget(process)
            self._end_scans.scan(process, _SCANS_S if alone else _END_SCAN_S)
        else:
            self._end_scans.forget(process)
        delivered_ns = self._live.tracer.stream.delivered_ns
        until_ns = process.ended_ns + 1 if process.ended_ns else delivered_ns
        limit_s = _TABLES_S if not self._traced.system_wide else 0
        session.read_stacks(_LAST_TABLES_S if alone else limit_s, until_ns)
        snapshot = self._reporter.snapshot(process, "final", now_ns())
        self._reports.add([replace(snapshot, only_leaks=self._shows_busiest)], self._write_ended)
        self._reports.write_ready()

    def _is_left_out(self, process: Process) -> bool:
        """System-wide: whether a process that has ended gets no report of its own.

        In tables only leaks are shown. While too many reports wait, no more are made.
        """
        if self._shows_busiest and not self._traced.heap:
            return True
        if not self._reports.is_full:
            return False
        self._live.session.skip(process)
        return True

    def _report_all(self, kind: Literal["snapshot", "final"]) -> None:
        session = self._live.session
        session.losses.refresh()
        now, others = now_ns(), 0
        processes = list(session.process_table)
        if self._shows_busiest:
            processes.sort(key=self._reporter.activity, reverse=True)
            listed = processes if self._judges_all else processes[: self._report.top]
            processes, others = listed, len(processes) - len(listed)
        snapshots = [self._reporter.snapshot(each, kind, now) for each in processes]
        if self._shows_busiest:
            top = self._report.top
            snapshots[top:] = [snapshot.without_listing() for snapshot in snapshots[top:]]
        ended = self._reporter.ended() if self._traced.system_wide else None
        self._snapshot_waits = True
        self._reports.add(snapshots, partial(self._write_all, others=others, ended=ended))

    @property
    def _shows_busiest(self) -> bool:
        return self._traced.system_wide and not self._report.json

    def _write_ended(self, report: Report) -> None:
        self._note(report)
        for one in report:
            if not self._shows_busiest or one.verdict in FAULTS:
                self._output.write(one)

    @property
    def _judges_all(self) -> bool:
        """Whether something needs every process, also those that are not listed."""
        return self._report.needs_verdict or bool(self._report.profiles)

    def _write_all(self, report: Report, others: int, ended: EndedSummary | None) -> None:
        self._snapshot_waits = False
        self._note(report)
        self._output.write_profiles()
        if self._shows_busiest:
            top = self._report.top
            self._output.write_busiest(report[:top], others + len(report[top:]))
        else:
            for one in report:
                self._output.write(one)
        if ended is not None:
            self._output.write_ended(ended)

    def _note(self, report: Report) -> None:
        self._outcome.note(report)
        self._output.profile(report)


def _limited(is_wanted: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: is_wanted() and time.monotonic() < until


def _say(line: str) -> None:
    """Writes a line to standard error. Names of programs and files may contain any bytes."""
    stdio.say(printable(line))
