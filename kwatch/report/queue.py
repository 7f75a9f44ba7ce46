# SPDX-License-Identifier: Apache-2.0
"""Reports that wait for the names of their stacks while tracing goes on."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from kwatch.model.snapshot import Snapshot
from kwatch.report.unsymbolized import NoSymbols, UnsymbolizedSnapshot
from kwatch.report.verdict import StackSymbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread

_MAX_WAITING = 1024
_LOOK_S = 1.0  # between checks whether the thread has failed

#: Snapshots that are written together, and the function that writes them.
Report = list[Snapshot]
Write = Callable[[Report], None]


class ReportQueue:
    """Writes reports in the order in which they were added. `thread`: None without stacks."""

    def __init__(self, thread: SymbolizerThread | None) -> None:
        self._thread = thread
        self._done: SimpleQueue[tuple[Report, Write] | BaseException] = SimpleQueue()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many reports have not been written."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether `add` would wait."""
        return self._waiting >= _MAX_WAITING

    def fileno(self) -> int:
        """Readable when a report can be written."""
        return self._event

    def add(self, snapshots: Sequence[UnsymbolizedSnapshot], write: Write) -> None:
        """Adds a report; waits while very many are waiting, since snapshots take memory."""
        while self.is_full:
            self.await_one(_LOOK_S)
            self.write_ready()
        self._waiting += 1
        if self._thread is None:
            self._complete(snapshots, write, NoSymbols())
        else:
            self._thread.submit(lambda symbolizer: self._complete(snapshots, write, symbolizer))

    def await_one(self, seconds: float, *others: int) -> bool:
        """Waits until a report or another descriptor is ready; false after `seconds`."""
        poll = select.poll()
        for fd in (self._event, *others):
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def write_ready(self) -> None:
        """Writes the complete reports. Raises the error that prevented one."""
        if self._thread is not None:
            self._thread.check()
        while not self._done.empty():
            done = self._done.get()
            os.eventfd_read(self._event)  # one count for each report
            self._waiting -= 1
            if isinstance(done, BaseException):
                raise done
            report, write = done
            write(report)

    def hurry(self) -> None:
        """Leaves the remaining frames without names."""
        if self._thread is not None:
            self._thread.hurry()

    def close(self) -> None:
        """Ends the thread first, because it writes to the descriptor."""
        if self._thread is not None:
            self._thread.close()
        os.close(self._event)

    def _complete(
        self, snapshots: Sequence[UnsymbolizedSnapshot], write: Write, symbolizer: StackSymbolizer
    ) -> None:
        try:
            self._done.put(([snapshot.symbolize(symbolizer) for snapshot in snapshots], write))
        except BaseException as error:  # `write_ready` raises it in the main thread
            self._done.put(error)
        os.eventfd_write(self._event, 1)
