# SPDX-License-Identifier: Apache-2.0
"""Does what takes the symbolizer long, beside the loop that reads the rings.

The first stack that leads into a file with much debug information takes tens of milliseconds, and
a server of such files seconds. The rings would be full by then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from kwatch.symbols.symbolizer import Symbolizer

Job = Callable[[Symbolizer], None]


class Namer:
    """One thread that does jobs with the symbolizer, in their order."""

    def __init__(self, symbolizer: Symbolizer) -> None:
        self._symbolizer = symbolizer
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="namer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Jobs that wait, about."""
        return self._jobs.qsize()

    def submit(self, job: Job) -> None:
        """Raises what an earlier job has raised."""
        if self._failure is not None:
            raise self._failure
        self._jobs.put(job)

    def hurry(self) -> None:
        """No more debug information is read: what has no name yet gets none."""
        self._symbolizer.hurry()

    def close(self) -> None:
        """Jobs that have not been begun are not done."""
        self.hurry()
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job(self._symbolizer)
            except BaseException as error:  # the main thread is to end of it
                self._failure = error
