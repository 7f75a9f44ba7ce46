# SPDX-License-Identifier: Apache-2.0
"""Messages that kwatch prints while it traces."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from kwatch.system import stdio

_SILENT_S = 3.0


class Notices:
    """`say` prints a message. The start announces nothing: the `attached` line sums it up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._announces = False
        self._waiting: list[str] = []

    def warn(self, line: str) -> None:
        """Prints a warning."""
        self._say(f"kwatch: {line}")

    def announce(self, line: str) -> None:
        """Prints what was attached after the start, or could not be attached."""
        if self._announces:
            self._say(line)

    def report(self, line: str) -> None:
        """Prints what is missing; before the `attached` line, keeps it until that is printed."""
        if self._announces:
            self._say(line)
        else:
            self._waiting.append(line)

    def start_announcing(self) -> None:
        self._announces = True
        for line in self._waiting:
            self._say(line)
        self._waiting.clear()


class Progress:
    """Says once that the attach goes on, if it takes long and someone looks at a terminal."""

    def __init__(self, notices: Notices, processes: int) -> None:
        self._notices = notices
        self._left = processes
        self._line = f"attaching to {processes:,} processes ..."
        self._due = time.monotonic() + _SILENT_S if stdio.is_watched() else math.inf

    def step(self) -> None:
        """One more process is attached."""
        self._left -= 1
        if self._left > 0 and time.monotonic() >= self._due:
            self._notices.warn(self._line)
            self._due = math.inf
