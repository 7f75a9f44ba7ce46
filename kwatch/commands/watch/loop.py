# SPDX-License-Identifier: Apache-2.0
"""The watch loop: sets a session up, reads its stream, writes snapshots, ends with a report."""

from __future__ import annotations

import math
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Literal

from kwatch.commands.watch.messages import attached_line, nobody_line, unmatched_line, untraced_line
from kwatch.errors import ExitCode, KwatchError
from kwatch.model.options import WatchOptions
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Verdict
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.report.queue import Report, ReportQueue
from kwatch.report.reporter import Reporter
from kwatch.session.session import Session, now_ns
from kwatch.session.tracer import Tracer
from kwatch.sinks.output import Output
from kwatch.system import stdio
from kwatch.system.mallopt import keep_freed_memory
from kwatch.system.signals import Signals
from kwatch.targets import processes
from kwatch.targets.connector import Connector
from kwatch.targets.launch import Launched, program_files
from kwatch.units import printable

_GRACE_S = 5.0  # for a launched command to end after a signal
_AT_ONCE_S = 0.5  # else it is said that this is waited for
_TABLES_S = 1.0  # for tables that stacks wait for at a snapshot
_LAST_TABLES_S = 30.0  # at a final report
_NAMES_S = 30.0  # for names, once nothing is traced any more
_SOON_S = 2.0  # before it is said what takes so long at the end
_LOOK_S = 0.01  # between two looks whether stacks that a snapshot waits for have come
_END_S = 0.1  # between two looks whether a command that is traced no more has ended
_GONE_S = 1.0  # between two looks for processes whose exit was lost,
_REST = 20  # or so many times as long as a look takes


class Watch:
    """One run of `kwatch`: constructed, it is attached. A start that fails leaves nothing."""

    def __init__(self, options: WatchOptions, loader: Loader, signals: Signals) -> None:
        """Raises KwatchError."""
        self._options = options
        self._signals = signals
        self._found_leak = self._said_who_is_waited_for = False
        self._snapshot_waits = False  # for names
        self._snapshots = 0
        self._unsure = 0  # final verdicts
        self._started = self._next = self._next_gone = 0.0
        self._launched: Launched | None = None
        self._connector: Connector | None = None
        with ExitStack() as stack:
            stack.callback(loader.close)
            named = [processes.require(pid) for pid in options.pids]
            if options.command:
                self._launched = Launched(options.command)
                stack.callback(self._launched.abandon)
            self._output = stack.enter_context(closing(Output(options)))
            signals.wait_for(loader)
            self._tracer = stack.enter_context(closing(Tracer(options, loader.result())))
            session = Session(options, self._tracer, self._process_ended)
            session.warn = lambda line: _say(f"kwatch: {line}")
            self._session = stack.enter_context(closing(session))
            self._tracees = session.tracees
            self._reporter = Reporter(session, self._tracer)
            self._reports = stack.enter_context(closing(ReportQueue(session.namer)))
            if options.comms:
                self._connector = stack.enter_context(closing(Connector()))
            self._attach(named)
            self._opened = stack.pop_all()

    def _attach(self, named: list[ProcessFacts]) -> None:
        """A signal that comes before all targets are attached ends the start."""
        for facts in named:
            self._signals.check()
            self._tracees.attach(facts)
        if self._options.system_wide and self._options.heap:
            self._tracees.attach_system()
        if self._launched is not None:
            found = processes.facts(self._launched.pid)
            if found is None:
                raise KwatchError("the launched child died before its exec", "try again")
            files = program_files(self._launched.path) if self._options.mappings else []
            self._tracees.attach_launched(found, files)
        for pid in processes.named(self._options.comms) if self._options.comms else ():
            self._signals.check()
            self._tracees.attach_named(pid)
        for facts in named:  # else what comes of it would depend on when it ended
            processes.require_still(facts)
        self._signals.check()

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError, or BrokenPipeError if nobody reads."""
        with self._opened:
            try:
                return self._watch()
            except (BrokenPipeError, KwatchError) as error:
                if self._launched is None:
                    raise
                return self._see_out(self._launched, error)

    def _see_out(self, launched: Launched, error: BrokenPipeError | KwatchError) -> int:
        """Nobody gets the report, but the command goes on, untraced, and a status is due."""
        failure = error if isinstance(error, KwatchError) else None
        traceback.clear_frames(error.__traceback__)  # of views of the rings, which would stay
        try:
            self._opened.close()
        except KwatchError as another:
            failure = failure or another
        if failure is not None:
            stdio.say_error(failure)
        while not launched.has_ended() and not self._is_told_to_end():
            if select.select([self._signals], [], [], _END_S)[0]:
                self._signals.read()
                self._pass_on_signal()
            self._say_who_is_waited_for()
        status = self._status()
        return status if failure is None else ExitCode.FAILED

    def _watch(self) -> int:
        stream = self._tracer.stream
        for source in (self._signals, self._connector, self._reports):
            if source is not None:
                stream.watch(source.fileno())
        keep_freed_memory()
        _say(attached_line(self._options, self._tracees, self._launched))
        is_joined = bool(self._options.pids or self._options.comms)  # a new command has no children
        if self._options.follow and is_joined and (left := self._tracees.untraced_children()):
            _say(untraced_line(left))
        if not self._options.system_wide:
            self._tracees.announce = _say
        if self._launched is not None:
            self._launched.release()
        self._started = time.monotonic()
        self._next = self._started + self._options.interval_s
        while not self._is_over():
            longest = 0 if self._session.is_behind else self._deadline() - time.monotonic()
            self._step(stream.wait(longest, self._session.concerns))
            self._say_who_is_waited_for()
        return self._finish()

    def _deadline(self) -> float:
        now = time.monotonic()
        deadlines = []
        if not self._snapshot_waits:
            deadlines.append(self._next if now < self._next else now + _LOOK_S)
        if self._options.duration_s is not None:
            deadlines.append(self._started + self._options.duration_s)
        if self._signals.first_at is not None:
            deadlines.append(self._signals.first_at + _GRACE_S)
        return min(deadlines, default=math.inf)

    def _step(self, ready: set[int]) -> None:
        if self._signals.fileno() in ready:
            self._signals.read()
            self._pass_on_signal()
        renamed = self._renamed(ready)
        self._tracer.stream.deliver(self._session.apply)
        self._tracees.end_gone(self._gone())
        self._reports.write_ready()
        for pid in renamed:  # after the end that an exec was for a target
            self._tracees.attach_named(pid, late=True)
        if self._is_due():
            self._next = max(self._next, time.monotonic()) + self._options.interval_s
            self._draft_all("snapshot")
            self._snapshots += 1

    def _renamed(self, ready: set[int]) -> Iterable[int]:
        """Processes with a new name; all that match if some of the news were lost."""
        if self._connector is None or self._connector.fileno() not in ready:
            return ()
        renamed = self._connector.renamed()
        return processes.named(self._options.comms) if renamed is None else renamed

    def _gone(self) -> list[Process]:
        """Processes whose exit was lost; to look for them takes time with many."""
        now = time.monotonic()
        if now < self._next_gone:
            return []
        self._reporter.refresh()
        unsure = self._reporter.lost_control or (self._launched and self._launched.has_ended())
        gone = self._tracees.gone(self._tracer.stream.delivered_ns) if unsure else []
        took = time.monotonic() - now
        self._next_gone = now + max(_GONE_S, took * _REST)
        return gone

    def _is_due(self) -> bool:
        """A snapshot waits a moment for stacks, and for the names of the one before."""
        late = time.monotonic() - self._next
        if late < 0 or self._snapshot_waits:
            return False
        return late >= _TABLES_S or not self._session.has_unread_stacks

    def _is_over(self) -> bool:
        signalled = self._signals.first_at is not None
        lasting = bool(self._options.comms) or self._options.system_wide
        nobody_left = not len(self._session.process_table) and (signalled or not lasting)
        return nobody_left or self._is_told_to_end()

    def _is_told_to_end(self) -> bool:
        options, now = self._options, time.monotonic()
        if options.count is not None and self._snapshots >= options.count:
            return True
        if options.duration_s is not None and now >= self._started + options.duration_s:
            return True
        if self._signals.first_at is None:
            return False
        patient = self._launched is not None and self._signals.count == 1
        return not patient or now >= self._signals.first_at + _GRACE_S

    def _pass_on_signal(self) -> None:
        """A launched command gets what kwatch gets, unless the terminal has sent it to both."""
        if self._launched is None or self._launched.has_ended():
            return
        number = self._signals.last
        if number == signal.SIGINT and _in_foreground():
            return
        os.kill(self._launched.pid, number)

    def _say_who_is_waited_for(self) -> None:
        """Once, if a command does not end at the signal that was to end both."""
        first = self._signals.first_at
        if self._launched is None or first is None or self._said_who_is_waited_for:
            return
        if self._signals.last == signal.SIGHUP or time.monotonic() < first + _AT_ONCE_S:
            return
        self._said_who_is_waited_for = True
        if not self._launched.has_ended() and not self._is_told_to_end():
            name = self._options.command[0]
            _say(f"kwatch: waiting for {name} to end; ^C again ends kwatch now")

    def _finish(self) -> int:
        self._tracer.stop()
        rest = self._patience("reading what has come until now")
        self._tracer.stream.deliver_rest(self._session.apply, rest)
        self._reporter.finish()
        self._session.read_stacks(_LAST_TABLES_S if rest() else 0)
        self._draft_all("final")
        self._await_names()
        nobody = bool(self._options.comms) and not self._session.process_table.had_any
        if nobody:
            _say(nobody_line(self._options.comms))
        for prefix in self._tracees.unmatched_prefixes:
            _say(unmatched_line(prefix))
        status = self._status()
        return self._judged(status, nobody) if self._options.fail_on_leak else status

    def _judged(self, status: int, nobody: bool) -> int:
        if self._found_leak:
            return ExitCode.LEAK
        if self._unsure:
            noun = "process" if self._unsure == 1 else "processes"
            _say(
                f"kwatch: --fail-on-leak: no leak, but {self._unsure:,} {noun} could not be judged"
            )
        return ExitCode.FAILED if nobody else status

    def _patience(self, what: str) -> Callable[[], bool]:
        """Whether no signal has come since this was called. Says `what` takes so long, once."""
        self._signals.read()
        before, said_at = self._signals.count, time.monotonic() + _SOON_S

        def has_patience() -> bool:
            nonlocal said_at
            if time.monotonic() >= said_at:
                _say(f"kwatch: {what}; ^C ends that")
                said_at = math.inf
            self._signals.read()
            return self._signals.count == before

        return has_patience

    def _await_names(self) -> None:
        """Until all reports are written. Another signal, or too long a time, ends the naming."""
        has_patience = self._patience("reading debug information for names")
        until = time.monotonic() + _NAMES_S
        while self._reports.waiting:
            self._reports.await_one(_SOON_S, self._signals.fileno())
            if not has_patience() or time.monotonic() >= until:
                self._reports.hurry()
            self._reports.write_ready()

    def _status(self) -> int:
        if self._launched is None:
            return ExitCode.DONE
        if (
            self._session.process_table.get(self._launched.pid) is None
            or self._launched.has_ended()
        ):
            return self._launched.wait()  # its exit is seen a moment before it can be waited for
        _say(f"kwatch: {self._options.command[0]} (pid {self._launched.pid}) goes on running")
        return 128 + self._signals.last if self._signals.last else ExitCode.DONE

    def _process_ended(self, process: Process) -> None:
        self._reporter.refresh_of(process.pid)
        # While others go on, the rings fill up.
        alone = len(self._session.process_table) == 1
        until_ns = process.ended_ns + 1 if process.ended_ns else self._tracer.stream.delivered_ns
        self._session.read_stacks(_LAST_TABLES_S if alone else _TABLES_S, until_ns)
        draft = self._reporter.draft(process, "final", now_ns())
        self._reports.add([replace(draft, only_leaks=self._shows_busiest)], self._write_ended)
        self._reports.write_ready()

    def _draft_all(self, kind: Literal["snapshot", "final"]) -> None:
        self._reporter.refresh()
        now = now_ns()
        drafts = [
            self._reporter.draft(process, kind, now) for process in self._session.process_table
        ]
        if self._shows_busiest:
            drafts.sort(key=lambda draft: draft.activity, reverse=True)
            top = self._options.listing.top
            drafts[top:] = [draft.without_listing() for draft in drafts[top:]]
        self._snapshot_waits = True
        self._reports.add(drafts, self._write_all)

    @property
    def _shows_busiest(self) -> bool:
        return self._options.system_wide and not self._options.json

    def _write_ended(self, report: Report) -> None:
        self._note(report)
        for one in report:
            if not self._shows_busiest or one.verdict is Verdict.LEAK:
                self._output.write(one)

    def _write_all(self, report: Report) -> None:
        self._snapshot_waits = False
        self._note(report)
        self._output.write_profiles()
        if self._shows_busiest:
            top = self._options.listing.top
            self._output.write_busiest(report[:top], len(report[top:]))
            return
        for one in report:
            self._output.write(one)

    def _note(self, report: Report) -> None:
        self._found_leak |= any(one.verdict is Verdict.LEAK for one in report)
        self._unsure += sum(one.verdict is Verdict.UNSURE for one in report)
        self._output.profile(report)


def _say(line: str) -> None:
    """A line of text; names of programs and files may have anything in them."""
    stdio.say(printable(line))


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to kwatch. Not all standard streams need be it."""
    return any(_is_led_by_us(descriptor) for descriptor in range(3))


def _is_led_by_us(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
