# SPDX-License-Identifier: Apache-2.0
"""Records until the targets end, the user stops it or a limit is reached."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.commands.call_session import CallSession
from kwatch.commands.observed_session import Patience, say
from kwatch.commands.record.descriptors import descriptor_rows
from kwatch.commands.record.heap import RecordedHeap
from kwatch.commands.record.mappings import RecordedMappings
from kwatch.commands.record.options import RecordOptions
from kwatch.commands.trace.filtering import CallFilter
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.recording.recorder import Limits, Recorder, State
from kwatch.recording.store import Store, manifests
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.system.signals import Signals
from kwatch.units import counted, format_size

_TICK_S = 0.2
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Recording:
    """One run. The constructor attaches; if it fails, it leaves only the directory behind."""

    def __init__(
        self, traced: TraceOptions, options: RecordOptions, loader: Loader, signals: Signals
    ) -> None:
        """Raises KwatchError."""
        self._options = options
        self._filter = CallFilter(options.filter) if options.filter is not None else None
        self._ended: list[Process] = []
        self._earlier = 0
        with ExitStack() as stack:
            stack.callback(loader.close)
            store = stack.enter_context(closing(Store(options.directory)))
            self._earlier = len(list(manifests(options.directory)))
            self._heap = RecordedHeap(lambda: self._recorder)
            self._mappings = RecordedMappings(lambda: self._recorder)
            self._session = stack.enter_context(
                closing(
                    CallSession(
                        traced,
                        loader,
                        signals,
                        [self._heap, self._mappings],
                        self._end,
                        options.duration_s,
                    )
                )
            )
            launched = self._session.live.launched  # its exec follows
            self._mappings.begin(
                pid for pid in self._pids() if launched is None or pid != launched.pid
            )
            limits = Limits(options.segment_s, options.max_size, options.max_age_s)
            boot_id = _BOOT_ID.read_text().strip()
            self._recorder = Recorder(
                store, limits, boot_id, self._state, descriptor_rows(self._pids())
            )
            stack.callback(self._recorder.abandon)
            self._opened = stack.pop_all()

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError."""
        if self._earlier:
            held = counted(self._earlier, "segment")
            say(f"kwatch: {self._options.directory} has {held} already; this run adds more")
        return self._session.run(self._tick, self._finish, self._opened)

    def _tick(self) -> float:
        self._recorder.add(self._wanted(self._session.take()))
        if self._thread is not None:
            self._heap.name_stacks(self._thread)
        self._session.losses.tell_new()
        return time.monotonic() + _TICK_S

    def _finish(self, has_patience: Patience) -> None:
        self._recorder.add(self._wanted(self._session.calls.take()))
        if self._thread is not None:
            named = self._heap.all_named(self._thread)
            while has_patience() and not named.wait(_TICK_S):
                self._thread.check()
        self._recorder.close()
        self._session.losses.tell_all("recording")
        self._say_recorded()

    def _wanted(self, joined: JoinedCalls) -> JoinedCalls:
        """Those that the filter accepts."""
        if self._filter is None:
            return joined
        accepts = self._filter.accepts
        mask = np.array([accepts(call) for call in self._session.calls.calls(joined)], bool)
        return joined._replace(order=joined.order[mask], entries=joined.entries[mask])

    @property
    def _thread(self) -> SymbolizerThread | None:
        """Names stacks, if there are any."""
        return self._session.live.session.symbolizer_thread

    def _say_recorded(self) -> None:
        recorder = self._recorder
        each = f", {recorder.bytes / recorder.calls:.1f} bytes each" if recorder.calls else ""
        say(
            f"kwatch: {self._options.directory}: {counted(recorder.calls, 'system call')} in "
            f"{counted(recorder.segments, 'segment')}, {format_size(recorder.bytes)}{each}"
        )

    def _state(self) -> State:
        """For the end of a segment."""
        known = [*self._ended, *self._session.live.session.process_table]
        self._ended = []
        self._mappings.end_segment(self._pids())
        return State(
            tuple(process.facts for process in known),
            self._session.losses.lost().by_cause,
            {process.pid: process.parent for process in known},
            descriptor_rows(self._pids()),
        )

    def _pids(self) -> list[int]:
        return [process.pid for process in self._session.live.session.process_table]

    def _end(self, process: Process) -> None:
        self._ended.append(process)
        self._mappings.end(process)
