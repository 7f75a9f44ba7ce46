# SPDX-License-Identifier: Apache-2.0
"""Names the calls of stacks beside the loop that reads the rings.

The first stack that leads into a file with much debug information takes tens of milliseconds, and
a server of such files seconds. The rings would be full by then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from kwatch.snapshot import Frame
from kwatch.symbols.mappings import Call
from kwatch.symbols.symbolizer import Symbolizer

_MOST_OPEN = 16384

_Job = tuple[int, Sequence[Call], Callable[[tuple[Frame, ...]], None]]


class Namer:
    """One thread that asks the symbolizer, in the order of what was submitted."""

    def __init__(self, symbolizer: Symbolizer) -> None:
        self._symbolizer = symbolizer
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._open = 0
        self._change = threading.Condition()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="namer", daemon=True)
        self._thread.start()

    def submit(
        self, pid: int, calls: Sequence[Call], done: Callable[[tuple[Frame, ...]], None]
    ) -> None:
        """`done` is called with the frames, in the other thread.

        When very many wait already it is not, and the frames stay module and offset.
        """
        with self._change:
            if self._open >= _MOST_OPEN:
                return
            self._open += 1
        self._jobs.put((pid, calls, done))

    def settle(self, seconds: float) -> bool:
        """Waits until everything submitted has been named. Raises what the thread has died of."""
        with self._change:
            settled = self._change.wait_for(lambda: not self._open or self._failure, seconds)
        if self._failure is not None:
            raise self._failure
        return bool(settled)

    def close(self) -> None:
        """What has not been named stays as it is."""
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            pid, calls, done = job
            try:
                done(self._symbolizer.names(pid, calls))
            except BaseException as error:  # the main thread is to end of it
                self._failure = error
            with self._change:
                self._open -= 1
                self._change.notify_all()
