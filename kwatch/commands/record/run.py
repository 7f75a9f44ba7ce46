# SPDX-License-Identifier: Apache-2.0
"""Records until the targets end, the user stops it or a limit is reached."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.commands.record.descriptors import descriptor_rows
from kwatch.commands.record.heap import RecordedHeap
from kwatch.commands.record.options import RecordOptions
from kwatch.commands.trace.calls import CallStream
from kwatch.commands.trace.filtering import CallFilter
from kwatch.commands.trace.losses import LossNotices
from kwatch.commands.watch.messages import attached_line, nothing_traced_line, untraced_line
from kwatch.errors import ExitCode, KwatchError
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.recording.recorder import Limits, Recorder, State
from kwatch.recording.store import Store, manifests
from kwatch.rings.call_areas import CallAreas
from kwatch.session.event_loop import EventLoop
from kwatch.session.live import LiveSession
from kwatch.session.observer import Observer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import counted, format_size, printable

_WRITTEN_NS = 1_000_000  # all records that are so old have been written, on whatever CPU
_TICK_S = 0.2
_LAST_EVENTS_S = 2.0  # system-wide, events never end: more are lost, and counted
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Recording:
    """One run. The constructor attaches; if it fails, it leaves only the directory behind."""

    def __init__(
        self, traced: TraceOptions, options: RecordOptions, loader: Loader, signals: Signals
    ) -> None:
        """Raises KwatchError."""
        self._traced = traced
        self._options = options
        self._filter = CallFilter(options.filter) if options.filter is not None else None
        self._ended: list[Process] = []
        with ExitStack() as stack:
            stack.callback(loader.close)
            store = stack.enter_context(closing(Store(options.directory)))
            self._earlier = len(list(manifests(options.directory)))
            self._calls = CallStream(self._areas)
            self._heap = RecordedHeap(lambda: self._recorder)
            observers: list[Observer] = [self._calls, self._heap]
            self._live = stack.enter_context(
                closing(LiveSession(traced, loader, signals, _say, self._end, observers))
            )
            self._losses = LossNotices(self._live.tracer.losses, _say, "recording")
            self._live.attach()
            limits = Limits(options.segment_s, options.max_size, options.max_age_s)
            boot_id = _BOOT_ID.read_text().strip()
            self._recorder = Recorder(
                store, limits, boot_id, self._state, descriptor_rows(self._pids())
            )
            stack.callback(self._recorder.abandon)
            self._opened = stack.pop_all()
        self._loop = EventLoop(self._live, signals, _say, options.duration_s)

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError."""
        with self._opened:
            try:
                self._say_attached()
                self._loop.run(self._tick)
                return self._finish()
            except KwatchError as error:
                if self._live.launched is None:
                    raise
                return self._loop.see_out(error, self._opened.close)

    def _tick(self) -> float:
        self._record(self._live.tracer.stream.delivered_ns - _WRITTEN_NS)
        if self._thread is not None:
            self._heap.name_stacks(self._thread)
        self._losses.tell_new()
        return time.monotonic() + _TICK_S

    def _record(self, before_ns: float = math.inf) -> None:
        self._recorder.add(self._wanted(self._calls.take(before_ns)))

    def _wanted(self, joined: JoinedCalls) -> JoinedCalls:
        """Those that the filter accepts."""
        if self._filter is None:
            return joined
        accepts = self._filter.accepts
        mask = np.array([accepts(call) for call in self._calls.calls(joined)], bool)
        return joined._replace(order=joined.order[mask], entries=joined.entries[mask])

    def _finish(self) -> int:
        has_patience = self._loop.patience("reading the remaining events")
        until = time.monotonic() + _LAST_EVENTS_S
        self._live.finish(
            lambda: has_patience() and (not self._traced.system_wide or time.monotonic() < until)
        )
        self._record()
        if self._thread is not None:
            named = self._heap.all_named(self._thread)
            while has_patience() and not named.wait(_TICK_S):
                self._thread.check()
        self._recorder.close()
        self._losses.tell_all()
        self._say_recorded()
        if self._traced.comms and not self._live.session.process_table.had_any:
            _say(nothing_traced_line(self._traced.comms))
            return ExitCode.FAILED
        return self._loop.status()

    def _say_attached(self) -> None:
        tracees = self._live.tracees
        _say(attached_line(self._traced, tracees, self._live.launched))
        was_running = bool(self._traced.pids or self._traced.comms)
        if self._traced.follow and was_running and (left := tracees.untraced_children()):
            _say(untraced_line(left))
        if self._earlier:
            held = counted(self._earlier, "segment")
            _say(f"kwatch: {self._options.directory} has {held} already; this run adds more")

    @property
    def _thread(self) -> SymbolizerThread | None:
        """Names stacks, if there are any."""
        return self._live.session.symbolizer_thread

    def _say_recorded(self) -> None:
        recorder = self._recorder
        each = f", {recorder.bytes / recorder.calls:.1f} bytes each" if recorder.calls else ""
        _say(
            f"kwatch: {self._options.directory}: {counted(recorder.calls, 'system call')} in "
            f"{counted(recorder.segments, 'segment')}, {format_size(recorder.bytes)}{each}"
        )

    def _state(self) -> State:
        """For the end of a segment."""
        known = [*self._ended, *self._live.session.process_table]
        self._ended = []
        return State(
            tuple(process.facts for process in known),
            self._losses.lost().by_cause,
            {process.pid: process.parent for process in known},
            descriptor_rows(self._pids()),
        )

    def _pids(self) -> list[int]:
        return [process.pid for process in self._live.session.process_table]

    def _end(self, process: Process) -> None:
        self._losses.keep(process.pid)
        self._ended.append(process)

    def _areas(self) -> CallAreas:
        areas = self._live.tracer.stream.areas
        assert areas is not None
        return areas


def _say(line: str) -> None:
    """Writes a line to standard error. Names of programs and files may contain any bytes."""
    stdio.say(printable(line))
