# SPDX-License-Identifier: Apache-2.0
"""Follows the descriptors of the traced processes, for -y."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kwatch.commands.trace.options import OutputOptions
from kwatch.descriptors.descriptors import Descriptors
from kwatch.descriptors.live import LiveSource, open_descriptors
from kwatch.model.options import TraceOptions
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.targets import processes

_CALLS = (Moment.RETURNED, Moment.UNFINISHED, Moment.IN_PROGRESS, Moment.BLOCKED)


class FollowedDescriptors:
    """`texts`: shows the descriptors of the call that was taken last."""

    def __init__(self, options: OutputOptions) -> None:
        self._names = options.names
        self._processes: ProcessTable | None = None
        self._parents: dict[int, int] = {}  # of processes that have ended
        self._source = LiveSource(self._parent)
        self.texts = Descriptors(self._source, details=options.descriptors > 1)

    def begin(self, traced: TraceOptions, table: ProcessTable) -> None:
        """Reads what is open in the processes that are traced from the start."""
        self._processes = table
        pids = processes.all_pids() if traced.system_wide else [each.pid for each in table]
        for pid in pids:
            if found := open_descriptors(pid):
                self.texts.seed(pid, found)

    def end(self, process: Process) -> None:
        """Its last calls have not been shown."""
        self._parents[process.pid] = process.parent

    def follow(self, calls: Iterable[TracedCall]) -> Iterator[TracedCall]:
        """Those that are to be shown, each of which must be before the next one is taken."""
        batch = list(calls)
        self._source.foresee(batch)
        for call in self.texts.follow(batch):
            if self._names is None or call.name in self._names or call.moment not in _CALLS:
                yield call
            if call.moment is Moment.ENDED and call.tid == call.pid:
                self._parents.pop(call.pid, None)

    def _parent(self, pid: int) -> int:
        process = self._processes.get(pid) if self._processes is not None else None
        return process.parent if process is not None else self._parents.get(pid, 0)
