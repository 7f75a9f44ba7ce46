# SPDX-License-Identifier: Apache-2.0
"""What BPF programs may still be reading rests before something else is written in its place."""

from __future__ import annotations

import time
from collections import deque
from typing import Generic, TypeVar

#: A program runs for microseconds, but it can be preempted.
REST_S = 1.0

T = TypeVar("T")


class Resting(Generic[T]):
    """Things in the order in which they were given up."""

    def __init__(self) -> None:
        self._things: deque[tuple[float, T]] = deque()

    def add(self, thing: T) -> None:
        """No program that starts from now on can find it."""
        self._things.append((time.monotonic() + REST_S, thing))

    def rested(self) -> list[T]:
        """Those that no program can be reading any more; they rest no longer."""
        now, found = time.monotonic(), []
        while self._things and self._things[0][0] <= now:
            found.append(self._things.popleft()[1])
        return found
