# SPDX-License-Identifier: Apache-2.0
"""A launched command while it runs: kwatch forwards signals to it and returns its exit status."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

from kwatch.errors import ExitCode
from kwatch.system.signals import Signals
from kwatch.targets.launch import Launched

GRACE_S = 5.0  # a launched command may take this long to end after a signal
_AT_ONCE_S = 0.5  # after this time, kwatch says that it is waiting
_LOOK_S = 0.1  # between checks whether a command that is no longer traced has ended


class LaunchedCommand:
    """`name` is the name that the user gave; `say` prints a message."""

    def __init__(
        self, launched: Launched, name: str, signals: Signals, say: Callable[[str], None]
    ) -> None:
        self._launched = launched
        self._name = name
        self._signals = signals
        self._say = say
        self._said = False

    @property
    def is_given_time(self) -> bool:
        """Whether a signal has arrived and the command still has time to end."""
        first = self._signals.first_at
        if first is None or self._signals.count > 1:
            return False
        return time.monotonic() < first + GRACE_S

    def pass_on_signals(self) -> None:
        """Forwards the new signals, unless the command is in the group that they were sent to."""
        for arrived in self._signals.take():
            if self._launched.has_ended():
                return
            shares_group = os.getpgid(self._launched.pid) == os.getpgrp()
            if not (arrived.is_for_group and shares_group):
                os.kill(self._launched.pid, arrived.number)

    def say_if_waiting(self) -> None:
        """Says once that kwatch is waiting, if the signal does not end the command."""
        first = self._signals.first_at
        if first is None or self._said or self._signals.last == signal.SIGHUP:
            return
        if time.monotonic() < first + _AT_ONCE_S:
            return
        self._said = True
        if not self._launched.has_ended() and self.is_given_time:
            self._say(f"kwatch: waiting for {self._name} to end; ^C again ends kwatch now")

    def see_out(self, is_over: Callable[[], bool]) -> None:
        """Waits until the command, which is no longer traced, ends, or until `is_over`."""
        while not self._launched.has_ended() and not is_over():
            if select.select([self._signals], [], [], _LOOK_S)[0]:
                self._signals.read()
            self.pass_on_signals()
            self.say_if_waiting()

    def status(self, is_known: bool) -> int:
        """kwatch's exit status. `is_known`: no exit of the command has been recorded."""
        if not is_known or self._launched.has_ended():
            return self._launched.wait()  # the exit is recorded just before wait() can return it
        self._say(f"kwatch: {self._name} (pid {self._launched.pid}) is still running")
        return 128 + self._signals.last if self._signals.last else ExitCode.DONE
