# SPDX-License-Identifier: Apache-2.0
"""The run of `kwatch trace`: writes calls as they return, until the targets or the user end it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

from kwatch.commands.trace.calls import CallStream
from kwatch.commands.trace.descriptors import FollowedDescriptors
from kwatch.commands.trace.filtering import CallFilter, wanted
from kwatch.commands.trace.losses import LossNotices
from kwatch.commands.trace.options import OutputOptions
from kwatch.commands.trace.output import TraceOutput
from kwatch.commands.trace.stacks import CallStackTexts
from kwatch.commands.watch.messages import attached_line, nothing_traced_line, untraced_line
from kwatch.errors import ExitCode, KwatchError
from kwatch.model.options import TraceOptions
from kwatch.model.traced_call import TracedCall
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.rings.call_areas import CallAreas
from kwatch.session.event_loop import EventLoop
from kwatch.session.live import LiveSession
from kwatch.session.observer import Observer
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import printable

_WRITTEN_NS = 1_000_000  # all records that are so old have been written, on whatever CPU
_SHOW_S = 0.1  # a call is shown at most so long after its return
_LAST_EVENTS_S = 2.0  # system-wide, events never end: more are lost, and counted


class Trace:
    """One run. The constructor attaches; if it fails, it leaves nothing behind."""

    def __init__(
        self, traced: TraceOptions, output: OutputOptions, loader: Loader, signals: Signals
    ) -> None:
        """Raises KwatchError."""
        self._traced = traced
        self._filter = CallFilter(output.filter) if output.filter is not None else None
        self._options = output
        self._signals = signals
        self._descriptors = FollowedDescriptors(output) if output.descriptors else None
        with ExitStack() as stack:
            stack.callback(loader.close)
            several = (
                traced.follow or traced.system_wide or len(traced.pids) > 1 or bool(traced.comms)
            )
            self._stacks = CallStackTexts() if output.stacks else None
            self._output = stack.enter_context(closing(self._make_output(several)))
            self._calls = CallStream(self._areas)
            observers: list[Observer] = [self._calls]
            observers += [self._stacks] if self._stacks is not None else []
            self._live = stack.enter_context(
                closing(LiveSession(traced, loader, signals, _say, self._ended, observers))
            )
            self._losses = LossNotices(self._live.tracer.losses, _say)
            self._live.attach()
            if self._descriptors is not None:
                self._descriptors.begin(traced, self._live.session.process_table)
            self._opened = stack.pop_all()
        self._loop = EventLoop(self._live, signals, _say, output.duration_s)

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError, or BrokenPipeError if the pipe is closed."""
        with self._opened:
            try:
                self._say_attached()
                self._loop.run(self._tick)
                return self._finish()
            except (BrokenPipeError, KwatchError) as error:
                if self._live.launched is None:
                    raise
                return self._loop.see_out(error, self._opened.close)

    def _make_output(self, several: bool) -> TraceOutput:
        texts = self._descriptors.texts if self._descriptors is not None else None
        stack_of = self._stacks.frames if self._stacks is not None else None
        return TraceOutput(self._options, several, texts, stack_of)

    def _tick(self) -> float:
        self._show(self._live.tracer.stream.delivered_ns - _WRITTEN_NS)
        self._losses.tell_new()
        return time.monotonic() + _SHOW_S

    def _show(self, before_ns: float = math.inf) -> None:
        calls = self._calls.calls(self._calls.take(before_ns))
        if self._descriptors is not None:
            calls = self._descriptors.follow(calls)
        if self._filter is not None:
            calls = self._filter.chosen(calls)
        if self._stacks is not None:
            calls = iter(self._with_names(self._stacks, list(wanted(calls, self._options))))
        self._output.write(wanted(calls, self._options))

    def _with_names(
        self, stacks: CallStackTexts, calls: Sequence[TracedCall]
    ) -> Sequence[TracedCall]:
        thread = self._live.session.symbolizer_thread
        assert thread is not None  # there is one whenever events have stacks
        stacks.name(calls, thread, self._signals.check)
        return calls

    def _finish(self) -> int:
        has_patience = self._loop.patience("reading the remaining events")
        until = time.monotonic() + _LAST_EVENTS_S
        self._live.finish(
            lambda: has_patience() and (not self._traced.system_wide or time.monotonic() < until)
        )
        self._show()
        self._losses.tell_all()
        table = self._live.session.process_table
        if self._traced.comms and not table.had_any:
            _say(nothing_traced_line(self._traced.comms))
            return ExitCode.FAILED
        return self._loop.status()

    def _say_attached(self) -> None:
        tracees = self._live.tracees
        _say(attached_line(self._traced, tracees, self._live.launched))
        was_running = bool(self._traced.pids or self._traced.comms)
        if self._traced.follow and was_running and (left := tracees.untraced_children()):
            _say(untraced_line(left))

    def _ended(self, process: Process) -> None:
        self._losses.keep(process.pid)
        if self._descriptors is not None:
            self._descriptors.end(process)

    def _areas(self) -> CallAreas:
        areas = self._live.tracer.stream.areas
        assert areas is not None
        return areas


def _say(line: str) -> None:
    """Writes a line to standard error. Names of programs and files may contain any bytes."""
    stdio.say(printable(line))
