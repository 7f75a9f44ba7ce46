# SPDX-License-Identifier: Apache-2.0
"""The loop of every tracing command: runs until the targets end, the user stops it or a limit."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable

from kwatch.errors import ExitCode, KwatchError
from kwatch.session.launched import GRACE_S, LaunchedCommand
from kwatch.session.live import LiveSession
from kwatch.system import stdio
from kwatch.system.signals import Signals

_SOON_S = 2.0  # before kwatch says what it is waiting for at the end


class EventLoop:
    """`duration_s`: the limit of the run; None if there is none. `say` prints a message."""

    def __init__(
        self,
        live: LiveSession,
        signals: Signals,
        say: Callable[[str], None],
        duration_s: float | None = None,
    ) -> None:
        self._live = live
        self._signals = signals
        self._say = say
        self._duration_s = duration_s
        self._started = time.monotonic()
        self._stopped = False
        self._command: LaunchedCommand | None = None
        if live.launched is not None:
            name = live.options.command[0]
            self._command = LaunchedCommand(live.launched, name, signals, say)

    def run(self, tick: Callable[[], float], at_first: Callable[[int], None] | None = None) -> None:
        """Calls `tick` after each batch. It returns the time.monotonic() of its next call.

        `at_first`: see LiveSession.start.
        """
        self._live.start(at_first)
        self._started = time.monotonic()
        next_tick = tick()
        while not self.is_over:
            deadline = min(next_tick, self._deadline())
            ready = self._live.wait(deadline - time.monotonic())
            self._take_signals(ready)
            self._live.step(ready)
            next_tick = tick()
            if self._command is not None and not self.is_told_to_end:
                self._command.say_if_waiting()

    def stop(self) -> None:
        """Ends `run` after this tick."""
        self._stopped = True

    @property
    def is_over(self) -> bool:
        signalled = self._signals.first_at is not None
        options = self._live.options
        waits_for_more = bool(options.comms) or options.system_wide
        all_ended = not len(self._live.session.process_table)
        return (all_ended and (signalled or not waits_for_more)) or self.is_told_to_end

    @property
    def is_told_to_end(self) -> bool:
        """Whether the user or a limit ends the run; a launched command gets time to end first."""
        if self._stopped:
            return True
        limit = self._duration_s
        if limit is not None and time.monotonic() >= self._started + limit:
            return True
        if self._signals.first_at is None:
            return False
        return self._command is None or not self._command.is_given_time

    def patience(self, what: str) -> Callable[[], bool]:
        """Returns a function that is true until the next signal.

        If it is still called after a while, it prints once that kwatch is busy with `what`.
        """
        self._signals.read()
        before, said_at = self._signals.count, time.monotonic() + _SOON_S

        def has_patience() -> bool:
            nonlocal said_at
            if time.monotonic() >= said_at:
                self._say(f"kwatch: {what}; ^C skips the rest")
                said_at = math.inf
            self._signals.read()
            return self._signals.count == before

        return has_patience

    def see_out(self, error: BrokenPipeError | KwatchError, close: Callable[[], None]) -> int:
        """Waits for the launched command after what is traced can no longer be written.

        `close` ends the session. Returns the exit status.
        """
        failure = error if isinstance(error, KwatchError) else None
        traceback.clear_frames(error.__traceback__)  # they would keep views of the rings alive
        try:
            close()
        except KwatchError as another:
            failure = failure or another
        if failure is not None:
            stdio.say_error(failure)
        if self._command is not None:
            self._command.see_out(lambda: self.is_told_to_end)
        status = self.status()
        return status if failure is None else ExitCode.FAILED

    def status(self) -> int:
        """The exit status: a launched command's own."""
        if self._command is None or self._live.launched is None:
            return ExitCode.DONE
        return self._command.status(self._live.launched.pid in self._live.session.process_table)

    def _take_signals(self, ready: set[int]) -> None:
        """Also signals that were read while kwatch waited for something else."""
        if self._signals.fileno() in ready:
            self._signals.read()
        if self._command is not None:
            self._command.pass_on_signals()

    def _deadline(self) -> float:
        limits = [math.inf]
        if self._duration_s is not None:
            limits.append(self._started + self._duration_s)
        if self._signals.first_at is not None:
            limits.append(self._signals.first_at + GRACE_S)
        return min(limits)
