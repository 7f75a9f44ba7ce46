# SPDX-License-Identifier: Apache-2.0
"""A session that records each system call, as `kwatch trace` and `kwatch record` need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.commands.observed_session import ObservedSession, say
from kwatch.commands.trace.calls import CallStream
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs import io_uring
from kwatch.programs.loader import Loader
from kwatch.rings.call_areas import CallAreas
from kwatch.session.observer import Observer
from kwatch.system.signals import Signals

_NO_REQUESTS = (
    "kwatch: requests of io_uring are not seen: this kernel has no tracepoints for them, or kwatch "
    "may not use them"
)

_WRITTEN_NS = 1_000_000  # all records that are so old have been written, on whatever CPU


class CallSession(ObservedSession):
    """`calls`: those that have returned."""

    def __init__(
        self,
        traced: TraceOptions,
        loader: Loader,
        signals: Signals,
        observers: Sequence[Observer],
        on_end: Callable[[Process], None],
        duration_s: float | None,
    ) -> None:
        """`on_end` gets each process that ends. Raises KwatchError."""
        self.calls = CallStream(self._areas)
        super().__init__(traced, loader, signals, [self.calls, *observers], on_end, duration_s)
        if traced.io_uring and not self._sees_requests() and io_uring.exists():
            say(_NO_REQUESTS)

    def _sees_requests(self) -> bool:
        return "io_submitted" in self.live.tracer.programs.programs

    def take(self) -> JoinedCalls:
        """The calls that have returned since the last time."""
        return self.calls.take(self.delivered_ns)

    @property
    def delivered_ns(self) -> int:
        """The calls that returned before have been delivered."""
        return self.live.tracer.stream.delivered_ns - _WRITTEN_NS

    def _areas(self) -> CallAreas:
        areas = self.live.tracer.stream.areas
        assert areas is not None
        return areas
