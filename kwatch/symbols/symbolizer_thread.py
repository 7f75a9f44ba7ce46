# SPDX-License-Identifier: Apache-2.0
"""A thread for the slow work of the symbolizer, so that the loop goes on reading the rings.

The first stack in a file with much debug information takes tens of milliseconds, and a process of
many such files takes seconds. The rings would overflow in that time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from queue import PriorityQueue

from kwatch.symbols.symbolizer import Symbolizer

Job = Callable[[Symbolizer], None]
_URGENT, _USUAL, _END = range(3)


class SymbolizerThread:
    """Runs jobs with the symbolizer one after another."""

    def __init__(self, symbolizer: Symbolizer) -> None:
        self._symbolizer = symbolizer
        self._jobs: PriorityQueue[tuple[int, int, Job | None]] = PriorityQueue()
        self._numbers = count()
        self._failure: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="symbolizer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of jobs that have not started, about."""
        return self._jobs.qsize()

    def submit(self, job: Job, urgent: bool = False) -> None:
        """Jobs whose names may soon be lost are `urgent`: they run before all others."""
        self._jobs.put((_URGENT if urgent else _USUAL, next(self._numbers), job))

    def check(self) -> None:
        """Raises the exception of a job that failed."""
        if self._failure is not None:
            raise self._failure

    def hurry(self) -> None:
        """From now on no debug information is read: what has no name yet gets none."""
        self._symbolizer.hurry()

    def close(self) -> None:
        """Ends the thread. Jobs that have not started are dropped."""
        self._closing = True
        self.hurry()
        self._jobs.put((_END, next(self._numbers), None))
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            try:
                if not self._closing:
                    job(self._symbolizer)
            except BaseException as error:  # `check` raises it in the main thread
                self._failure = error
