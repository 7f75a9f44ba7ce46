# SPDX-License-Identifier: Apache-2.0
"""A session whose events go to observers and accounts, from the attach to the exit status."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from kwatch.commands.trace.losses import LossNotices
from kwatch.commands.watch.messages import attached_line, nothing_traced_line, untraced_line
from kwatch.errors import ExitCode, KwatchError
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.session.event_loop import EventLoop
from kwatch.session.live import LiveSession
from kwatch.session.observer import Observer
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import printable

Patience = Callable[[], bool]

_LAST_EVENTS_S = 2.0  # system-wide, events never end: more are lost, and counted


class ObservedSession:
    """The constructor attaches; if it fails, it leaves nothing behind."""

    def __init__(
        self,
        traced: TraceOptions,
        loader: Loader,
        signals: Signals,
        observers: Sequence[Observer],
        on_end: Callable[[Process], None],
        duration_s: float | None,
    ) -> None:
        """`on_end` gets each process that ends. Raises KwatchError."""
        self._traced = traced
        self._on_end = on_end
        with ExitStack() as stack:
            self.live = stack.enter_context(
                closing(LiveSession(traced, loader, signals, say, self._end, observers))
            )
            self.losses = LossNotices(self.live.tracer.losses, say)
            self.live.attach()
            self._opened = stack.pop_all()
        self._loop = EventLoop(self.live, signals, say, duration_s)

    def close(self) -> None:
        self._opened.close()

    def run(
        self, tick: Callable[[], float], finish: Callable[[Patience], None], opened: ExitStack
    ) -> int:
        """Calls `tick` until the end, then `finish`, and closes `opened`, which holds the session.

        `tick` returns the time.monotonic() of its next call. Returns the exit status. Raises
        KwatchError, or BrokenPipeError if the pipe is closed.
        """
        with opened:
            try:
                self._say_attached()
                self._loop.run(tick)
                finish(self._read_rest())
                return self._status()
            except (BrokenPipeError, KwatchError) as error:
                if self.live.launched is None:
                    raise
                return self._loop.see_out(error, opened.close)

    def _read_rest(self) -> Patience:
        has_patience = self._loop.patience("reading the remaining events")
        until = time.monotonic() + _LAST_EVENTS_S
        self.live.finish(
            lambda: has_patience() and (not self._traced.system_wide or time.monotonic() < until)
        )
        return has_patience

    def _status(self) -> int:
        if self._traced.comms and not self.live.session.process_table.had_any:
            say(nothing_traced_line(self._traced.comms))
            return ExitCode.FAILED
        return self._loop.status()

    def _say_attached(self) -> None:
        tracees = self.live.tracees
        say(attached_line(self._traced, tracees, self.live.launched))
        was_running = bool(self._traced.pids or self._traced.comms)
        if self._traced.follow and was_running and (left := tracees.untraced_children()):
            say(untraced_line(left))

    def _end(self, process: Process) -> None:
        self.losses.keep(process.pid)
        self._on_end(process)


def say(line: str) -> None:
    """Writes a line to standard error. Names of programs and files may contain any bytes."""
    stdio.say(printable(line))
