# SPDX-License-Identifier: Apache-2.0
"""The data rings of all CPUs: one for each, read in place as numpy arrays.

A BPF program counts the records that it could not write.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kwatch.errors import KwatchError
from kwatch.kernel import bpf
from kwatch.kernel.cpus import online_cpus
from kwatch.kernel.privileges import cure_of
from kwatch.model.options import TraceOptions
from kwatch.programs.sources import SYSCALLS, EventSource
from kwatch.rings.bpf_ring import CpuBpfRing
from kwatch.rings.mapped_ring import CpuMappedRing, RingPositions, records_of
from kwatch.wire import events
from kwatch.wire.events import Batch

_SUMMED_SHARE = 2  # of the rings of system calls


class CpuRing(Protocol):
    """One CPU's ring; see CpuMappedRing."""

    fd: int

    @property
    def written(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def events(self) -> tuple[Batch, bool]: ...

    def release(self, count: int) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Lane:
    """A CPU's ring, its events as of the last look, and how many of them are being read.

    `old`: how many are known to be older than the cut. All before `read_until_ns` have been read.
    """

    ring: CpuRing
    events: Batch | None = None
    old: int = 0
    reading: int = 0
    read_until_ns: int = 0


class DataRings:
    """The rings of all CPUs behind one array of maps, mapped ones if there are `positions`.

    `descriptors`: for edge-triggered polling; a BPF program decides when they become readable.
    """

    def __init__(
        self,
        output: bpf.Map,
        positions: bpf.Map | None,
        size: int,
        event: np.dtype[np.void],
        on_release: Callable[[Batch], None] | None = None,
    ) -> None:
        """`size`: of each ring, in bytes. Raises KwatchError.

        `on_release` gets the events of each CPU before they are released.
        """
        self._on_release = on_release
        self._lanes: list[_Lane] = []
        self._positions: RingPositions | None = None
        with ExitStack() as stack:
            stack.callback(self.close)
            try:
                if positions is not None:
                    self._positions = RingPositions(positions)
                for cpu in online_cpus():
                    self._lanes.append(_Lane(self._ring(cpu, size, event)))
                    output.set(struct.pack("I", cpu), struct.pack("I", self._lanes[-1].ring.fd))
            except OSError as error:
                raise KwatchError(
                    f"a ring of {size} bytes cannot be created: {error.strerror}", cure_of(error)
                ) from error
            stack.pop_all()

    def _ring(self, cpu: int, size: int, event: np.dtype[np.void]) -> CpuRing:
        if self._positions is None:
            return CpuBpfRing.create(size, event)
        return CpuMappedRing.create(self._positions[cpu], records_of(size, event), event)

    @property
    def descriptors(self) -> list[int]:
        return [] if self._positions is not None else [lane.ring.fd for lane in self._lanes]

    @property
    def left(self) -> int:
        """How many events from before the last `mark` have not been released."""
        return sum(lane.old for lane in self._lanes)

    @property
    def fill(self) -> float:
        """The share of the fullest ring that is in use, between 0 and 1."""
        return max(lane.ring.written / lane.ring.capacity for lane in self._lanes)

    def mark(self) -> None:
        """Call this before the clock is read for a cut: events that are there now are older."""
        for lane in self._lanes:
            lane.old = lane.ring.written

    def complete_until(self, cut_ns: int) -> int:
        """The time, at most `cut_ns`, before which no event is hidden from the reader.

        If a CPU has events behind one that is being written, this is the time of the event before
        it: the thread that wrote a hidden event may have moved to another CPU.
        """
        complete_ns = cut_ns
        for lane in self._lanes:
            lane.events, whole = lane.ring.events()
            if not whole:
                last = int(lane.events["time_ns"][-1]) if len(lane.events) else lane.read_until_ns
                complete_ns = min(complete_ns, last)
        return complete_ns

    def read(self, cut_ns: int, marked: bool) -> list[Batch]:
        """Views of each CPU's events before `cut_ns`, valid until `release`.

        Only events that `complete_until` saw. `marked`: `cut_ns` was read after `mark`.
        """
        batches = []
        for lane in self._lanes:
            assert lane.events is not None
            old = lane.old if marked else 0
            late = lane.events["time_ns"][old:] >= np.uint64(cut_ns)
            lane.reading = old + int(late.argmax()) if late.any() else len(lane.events)
            if lane.reading:
                batches.append(lane.events[: lane.reading])
                lane.read_until_ns = int(batches[-1]["time_ns"][-1])
        return batches

    def release(self) -> None:
        """Frees the events that have been read."""
        for lane in self._lanes:
            if self._on_release is not None and lane.events is not None and lane.reading:
                self._on_release(lane.events[: lane.reading])
            lane.events = None
            lane.ring.release(lane.reading)
            lane.old = max(lane.old - lane.reading, 0)
            lane.reading = 0

    def close(self) -> None:
        for lane in self._lanes:
            lane.events = None
            lane.ring.close()
        self._lanes.clear()
        if self._positions is not None:
            self._positions.close()


def ring_size(source: EventSource, options: TraceOptions) -> int:
    """The bytes of a ring for each CPU. Where system calls are summed up, few are sent."""
    if source.name == SYSCALLS and options.sums_calls:
        return max(options.buffer // _SUMMED_SHARE, mmap.PAGESIZE)
    return options.buffer


def event_of(source: EventSource, options: TraceOptions) -> np.dtype[np.void]:
    """The dtype of a source's events."""
    name = source.event
    if source.name == SYSCALLS and options.record:
        name = "CALL"
    elif source.name == SYSCALLS and options.call_stacks:
        name = "STACKED_SYSCALL"
    dtype: np.dtype[np.void] = getattr(events, name)
    return dtype
