# SPDX-License-Identifier: Apache-2.0
"""Does what takes the symbolizer long, beside the loop that reads the rings.

The first stack that leads into a file with much debug information takes tens of milliseconds, and
a server of such files seconds. The rings would be full by then.
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
    """One thread that does jobs with the symbolizer, in their order."""

    def __init__(self, symbolizer: Symbolizer) -> None:
        self._symbolizer = symbolizer
        self._jobs: PriorityQueue[tuple[int, int, Job | None]] = PriorityQueue()
        self._numbers = count()
        self._failure: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="namer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that have not been begun, about."""
        return self._jobs.qsize()

    def submit(self, job: Job, urgent: bool = False) -> None:
        """What is `urgent`, because its names may go, comes before all that is not."""
        self._jobs.put((_URGENT if urgent else _USUAL, next(self._numbers), job))

    def check(self) -> None:
        """Raises what a job has raised."""
        if self._failure is not None:
            raise self._failure

    def hurry(self) -> None:
        """No more debug information is read: what has no name yet gets none."""
        self._symbolizer.hurry()

    def close(self) -> None:
        """Jobs that have not been begun are not done."""
        self._closing = True
        self.hurry()
        self._jobs.put((_END, next(self._numbers), None))
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            try:
                if not self._closing:
                    job(self._symbolizer)
            except BaseException as error:  # the main thread is to end of it
                self._failure = error
