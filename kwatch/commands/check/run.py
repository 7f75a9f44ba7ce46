# SPDX-License-Identifier: Apache-2.0
"""Checks until the targets end, the user stops it or a limit is reached."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import NamedTuple

from kwatch.commands.check.log import ErrorLog
from kwatch.commands.check.options import CheckOptions
from kwatch.commands.check.output import CheckOutput
from kwatch.commands.check.process_states import ProcessStates
from kwatch.commands.check.stacks import StackSource
from kwatch.commands.observed_session import ObservedSession, Patience
from kwatch.errors import ExitCode
from kwatch.model.options import TraceOptions
from kwatch.model.snapshot import Lost
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.system.signals import Signals

_TICK_S = 0.2
_NAMING_S = 0.01  # between looks whether the last stacks have names


class _Ended(NamedTuple):
    process: Process
    lost: Lost


class Check:
    """One run. The constructor attaches; if it fails, it leaves nothing behind."""

    def __init__(
        self, traced: TraceOptions, options: CheckOptions, loader: Loader, signals: Signals
    ) -> None:
        """Raises KwatchError."""
        self._options = options
        self._log: ErrorLog | None = None
        self._ended: list[_Ended] = []
        with ExitStack() as stack:
            stack.callback(loader.close)
            self._output = stack.enter_context(closing(CheckOutput(options.output, options.json)))
            self._session = stack.enter_context(
                closing(ObservedSession(traced, loader, signals, (), self._end, options.duration_s))
            )
            self._log = self._make_log(traced.free_stacks)
            self._opened = stack.pop_all()

    def _make_log(self, free_stacks: bool) -> ErrorLog:
        live = self._session.live
        reader, methods = live.session.stacks, live.tracer.programs.attach_methods
        assert reader is not None  # there is one whenever events have stacks
        states = ProcessStates(live.session.losses, methods.cookies)
        source = StackSource(reader, free_stacks)
        return ErrorLog(states, source, reader.symbolizer_thread)

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError, or BrokenPipeError if the pipe is closed."""
        status = self._session.run(self._tick, self._finish, self._opened)
        has_failed = self._options.fail_on_error and self.log.errors
        return ExitCode.LEAK if has_failed else status

    @property
    def log(self) -> ErrorLog:
        assert self._log is not None
        return self._log

    def _tick(self) -> float:
        self._session.live.session.losses.refresh()
        for process in self._session.live.session.process_table:
            self.log.look(process)
        self.log.ask_names()
        self._show()
        self._session.losses.tell_new()
        return time.monotonic() + _TICK_S

    def _show(self) -> None:
        """Prints the errors that have names, and summaries of processes that have no others."""
        for error in self.log.take_named():
            self._output.error(error)
        waiting = []
        for ended in self._ended:
            if self.log.is_done(ended.process):
                self._output.summary(self.log.summary(*ended))
            else:
                waiting.append(ended)
        self._ended = waiting

    def _finish(self, has_patience: Patience) -> None:
        for process in self._session.live.session.process_table:
            self._end(process)
        self._show()
        while self._ended:
            self.log.check(in_hurry=not has_patience())
            time.sleep(_NAMING_S)
            self._show()
        self._session.losses.tell_all("check")

    def _end(self, process: Process) -> None:
        """The last events of the process have been applied."""
        if self._log is None:
            return  # it has ended while others were attached
        losses = self._session.live.session.losses
        losses.refresh()
        self._log.look(process)
        self._log.ask_names(process)
        self._ended.append(_Ended(process, losses.of(process.pid)))
