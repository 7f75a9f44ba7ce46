# SPDX-License-Identifier: Apache-2.0
"""The run of `kwatch trace`: writes calls as they return, until the targets or the user end it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

from kwatch.commands.call_session import CallSession
from kwatch.commands.observed_session import Patience
from kwatch.commands.trace.descriptors import FollowedDescriptors
from kwatch.commands.trace.filtering import CallFilter, wanted
from kwatch.commands.trace.options import OutputOptions
from kwatch.commands.trace.output import TraceOutput
from kwatch.commands.trace.stacks import CallStackTexts
from kwatch.model.options import TraceOptions
from kwatch.model.traced_call import TracedCall
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.session.blocked_calls import BlockedCalls
from kwatch.syscalls.filter.expression import comparisons
from kwatch.syscalls.filter.fields import Stage
from kwatch.system.signals import Signals
from kwatch.wire.events import CALL

_SHOW_S = 0.1  # a call is shown at most so long after its return


class Trace:
    """One run. The constructor attaches; if it fails, it leaves nothing behind."""

    def __init__(
        self, traced: TraceOptions, output: OutputOptions, loader: Loader, signals: Signals
    ) -> None:
        """Raises KwatchError."""
        self._options = output
        self._signals = signals
        self._filter = CallFilter(output.filter) if output.filter is not None else None
        self._descriptors = FollowedDescriptors(output) if output.descriptors else None
        self._stacks = CallStackTexts() if output.stacks else None
        observers = [self._stacks] if self._stacks is not None else []
        with ExitStack() as stack:
            stack.callback(loader.close)
            self._output = stack.enter_context(closing(self._make_output(_has_several(traced))))
            self._session = stack.enter_context(
                closing(
                    CallSession(traced, loader, signals, observers, self._end, output.duration_s)
                )
            )
            if self._descriptors is not None:
                self._descriptors.begin(traced, self._session.live.session.process_table)
            self._blocked = self._find_blocked() if _shows_blocked(output) else None
            self._opened = stack.pop_all()

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError, or BrokenPipeError if the pipe is closed."""
        return self._session.run(self._tick, self._finish, self._opened)

    def _make_output(self, several: bool) -> TraceOutput:
        texts = self._descriptors.texts if self._descriptors is not None else None
        stack_of = self._stacks.frames if self._stacks is not None else None
        return TraceOutput(self._options, several, texts, stack_of)

    def _find_blocked(self) -> BlockedCalls:
        return BlockedCalls(self._session.live.tracer.calls, CALL)

    def _tick(self) -> float:
        self._show(self._session.calls.calls(self._session.take()))
        if self._blocked is not None:  # after the ends of calls that have just been taken
            in_progress = self._blocked.new(self._session.live.tracer.stream.delivered_ns)
            self._show(self._session.calls.blocked(in_progress))
        self._session.losses.tell_new()
        return time.monotonic() + _SHOW_S

    def _finish(self, has_patience: Patience) -> None:
        self._show(self._session.calls.calls(self._session.calls.take()), is_last=True)
        self._session.losses.tell_all("trace")

    def _show(self, calls: Iterator[TracedCall], is_last: bool = False) -> None:
        if self._stacks is not None:  # before the rest, which goes call by call
            calls = self._with_names(self._stacks, list(calls))
        if self._descriptors is not None:
            delivered_ns = self._session.delivered_ns
            follow = self._descriptors
            calls = follow.rest(calls) if is_last else follow.follow(calls, delivered_ns)
        if self._filter is not None:
            calls = self._filter.chosen(calls)
        self._output.write(wanted(calls, self._options))

    def _with_names(
        self, stacks: CallStackTexts, calls: Sequence[TracedCall]
    ) -> Iterator[TracedCall]:
        thread = self._session.live.session.symbolizer_thread
        assert thread is not None  # there is one whenever events have stacks
        stacks.name(calls, thread, self._signals.check)
        return iter(calls)

    def _end(self, process: Process) -> None:
        if self._descriptors is not None:
            self._descriptors.end(process)


def _has_several(traced: TraceOptions) -> bool:
    """Whether there may be several processes."""
    named = traced.system_wide or bool(traced.comms) or len(traced.pids) > 1
    return traced.follow or named


def _shows_blocked(output: OutputOptions) -> bool:
    """Whether calls that take long have a line before they return: lines are whether they succeed
    or not."""
    by_outcome = output.errors or output.failed_only or output.successful_only
    if output.filter is not None:
        by_outcome |= any(each.field.stage is Stage.EXIT for each in comparisons(output.filter))
    return not by_outcome and not output.json
