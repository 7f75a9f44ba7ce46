# SPDX-License-Identifier: Apache-2.0
"""Reports whose stacks are being named, while the rings are read on."""

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
_LOOK_S = 1.0  # between two looks whether the thread has failed

#: What is shown together, and how.
Report = list[Snapshot]
Write = Callable[[Report], None]


class ReportQueue:
    """Reports come out in the order in which they went in. `thread`: None if no stack has names."""

    def __init__(self, thread: SymbolizerThread | None) -> None:
        self._thread = thread
        self._done: SimpleQueue[tuple[Report, Write] | BaseException] = SimpleQueue()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Those that have not come out."""
        return self._waiting

    def fileno(self) -> int:
        """Readable when a report can be written."""
        return self._event

    def add(self, snapshots: Sequence[UnsymbolizedSnapshot], write: Write) -> None:
        """Waits while very many do, since snapshots take memory."""
        while self._waiting >= _MAX_WAITING:
            self.await_one(_LOOK_S)
            self.write_ready()
        self._waiting += 1
        if self._thread is None:
            self._complete(snapshots, write, NoSymbols())
        else:
            self._thread.submit(lambda symbolizer: self._complete(snapshots, write, symbolizer))

    def await_one(self, seconds: float, *others: int) -> bool:
        """Until a report is ready, one of the other descriptors is, or so long: whether one is."""
        poll = select.poll()
        for fd in (self._event, *others):
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def write_ready(self) -> None:
        """Those that are complete. Raises what has come in the way of one."""
        if self._thread is not None:
            self._thread.check()
        while not self._done.empty():
            done = self._done.get()
            os.eventfd_read(self._event)  # which is written after each
            self._waiting -= 1
            if isinstance(done, BaseException):
                raise done
            report, write = done
            write(report)

    def hurry(self) -> None:
        """What has no name yet gets none."""
        if self._thread is not None:
            self._thread.hurry()

    def close(self) -> None:
        """Ends the thread, who would write to the descriptor."""
        if self._thread is not None:
            self._thread.close()
        os.close(self._event)

    def _complete(
        self, snapshots: Sequence[UnsymbolizedSnapshot], write: Write, symbolizer: StackSymbolizer
    ) -> None:
        try:
            self._done.put(([snapshot.symbolize(symbolizer) for snapshot in snapshots], write))
        except BaseException as error:  # the main thread is to end of it
            self._done.put(error)
        os.eventfd_write(self._event, 1)
