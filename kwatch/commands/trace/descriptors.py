# SPDX-License-Identifier: Apache-2.0
"""Follows the descriptors of the traced processes, for -y."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kwatch.commands.trace.options import OutputOptions
from kwatch.descriptors.changes import Changes
from kwatch.descriptors.descriptors import Descriptors, Open
from kwatch.descriptors.live import LiveSource, open_descriptors
from kwatch.descriptors.readings import Readings
from kwatch.model.options import TraceOptions
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.targets import processes

_CALLS = (Moment.RETURNED, Moment.UNFINISHED, Moment.IN_PROGRESS, Moment.BLOCKED)
#: Calls after which a socket has addresses.
_NAMING = frozenset(["accept", "accept4", "bind", "connect", "listen", "socketpair"])


class _Held(NamedTuple):
    """Calls that are shown when all calls until the time of their readings are known."""

    calls: list[TracedCall]
    readings: Readings


class FollowedDescriptors:
    """`texts`: shows the descriptors of the call that was taken last."""

    def __init__(self, options: OutputOptions) -> None:
        self._names = options.names
        self._processes: ProcessTable | None = None
        self._parents: dict[int, int] = {}  # of processes that have ended
        self._source = LiveSource(self._parent)
        self._has_details = options.descriptors > 1
        self._held: deque[_Held] = deque()
        self._first: dict[int, dict[int, Open]] = {}
        self._first_at = Readings()
        self.texts = Descriptors(self._source, self._has_details)

    def begin(self, traced: TraceOptions, table: ProcessTable) -> None:
        """Reads what is open in the processes that are traced from the start."""
        self._processes = table
        pids = processes.all_pids() if traced.system_wide else [each.pid for each in table]
        for pid in pids:
            if found := open_descriptors(pid):
                self._first[pid] = found
        self._first_at = Readings()

    def end(self, process: Process) -> None:
        """Its last calls have not been shown."""
        self._parents[process.pid] = process.parent

    def follow(self, calls: Iterable[TracedCall], delivered_ns: int) -> Iterator[TracedCall]:
        """Those that are to be shown, each of which must be before the next one is taken.

        `delivered_ns`: the calls until then have been given, CLOCK_MONOTONIC.
        """
        batch = list(calls)
        if batch:
            self._held.append(_Held(batch, self._read(batch)))
        while self._held and self._held[0].readings.read_ns < delivered_ns:
            yield from self._next()

    def rest(self, calls: Iterable[TracedCall]) -> Iterator[TracedCall]:
        """The last ones. What is read now is true of none of them: later calls are not traced."""
        self._held.append(_Held(list(calls), Readings()))
        while self._held:
            yield from self._next()

    def _read(self, batch: list[TracedCall]) -> Readings:
        readings = Readings(self.texts.unknown(batch))
        if self._has_details and any(call.name in _NAMING for call in batch):
            readings.sockets.read()
        return readings

    def _next(self) -> Iterator[TracedCall]:
        changes = Changes(call for held in self._held for call in held.calls)
        self._seed(changes)
        held = self._held.popleft()
        self._source.use(held.readings, changes)
        for call in self.texts.follow(held.calls):
            if self._names is None or call.name in self._names or call.moment not in _CALLS:
                yield call
            if call.moment is Moment.ENDED and call.tid == call.pid:
                self._parents.pop(call.pid, None)

    def _seed(self, changes: Changes) -> None:
        """What was open before, but for what calls have changed while it was read."""
        for pid, found in self._first.items():
            until = self._first_at.at_ns
            same = {
                fd: each
                for fd, each in found.items()
                if not changes.lies_between(pid, fd, 0, until)
            }
            self.texts.seed(pid, same)
        self._first = {}

    def _parent(self, pid: int) -> int:
        process = self._processes.get(pid) if self._processes is not None else None
        return process.parent if process is not None else self._parents.get(pid, 0)
