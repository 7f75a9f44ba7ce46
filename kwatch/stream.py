# SPDX-License-Identifier: Apache-2.0
"""The three rings as one stream in order of time.

A batch is cut at the moment before the rings were read: what happened before it and is visible
then is handed on, the rest waits for the next batch. An event is written before its thread goes
on, so whatever it caused (a free of a block, a fork's child) is cut with it or after it.
"""

from __future__ import annotations

import itertools
import select
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from kwatch import events
from kwatch.events import Batch
from kwatch.kernel.loader import Programs
from kwatch.kernel.ring import (
    ControlRecord,
    EventReader,
    LostRecord,
    MappingRecord,
    NameRecord,
    Ring,
    control_records,
    online_cpus,
)

_CONTROL_SIZE = 1 << 20
_MAX_TOTAL = 256 << 20
_DEFAULT_SIZE = 8 << 20
_MIN_DEFAULT = 1 << 20

Control = MappingRecord | NameRecord | ControlRecord


def default_ring_size() -> int:
    """Bytes per CPU and ring: 8 MiB, less on machines with so many CPUs that it would add up."""
    size = _DEFAULT_SIZE
    while size > _MIN_DEFAULT and size * len(online_cpus()) > _MAX_TOTAL:
        size //= 2
    return size


@dataclass(slots=True)
class Drained:
    """One batch: control records and heap events in order of time, system calls in any order."""

    control: list[Control] = field(default_factory=list)
    heap: Batch = field(default_factory=lambda: np.empty(0, events.HEAP))
    syscalls: list[Batch] = field(default_factory=list)


class Stream:
    """Opens the rings of the loaded programs and reads them."""

    def __init__(self, programs: Programs, size: int, mappings: bool) -> None:
        """`mappings`: also what processes map and how they rename themselves."""
        maps = programs.maps
        self._control = Ring(maps["control_ring"], _CONTROL_SIZE, 1, timed=True, mappings=mappings)
        self._syscalls = Ring(maps["syscall_ring"], size, wakeup=size // 4)
        heap_ring = maps.get("heap_ring")
        self._heap = Ring(heap_ring, size, wakeup=size // 4) if heap_ring else None
        self._syscall_reader = EventReader(events.SYSCALL)
        self._heap_reader = EventReader(events.HEAP)
        self._late_control: list[Control] = []
        self._late_heap = np.empty(0, events.HEAP)
        self._late_syscalls: list[Batch] = []
        self.lost_control_records = 0
        self._poll = select.epoll()
        for ring in (self._control, self._syscalls, self._heap):
            for fd in ring.descriptors if ring else ():
                self._poll.register(fd, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Lets `wait` also return when this descriptor is readable."""
        self._poll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        self._poll.unregister(fd)

    def wait(self, seconds: float) -> set[int]:
        """Descriptors that became readable, at the latest after `seconds`."""
        return {fd for fd, _ in self._poll.poll(max(0.0, seconds))}

    def drain(self) -> Drained:
        """Everything that happened until now."""
        cut = time.monotonic_ns()
        control = self._drain_control(cut)
        return Drained(control, self._drain_heap(cut), self._drain_syscalls(cut))

    def _drain_control(self, cut: int) -> list[Control]:
        ordered = list(self._late_control)
        for record in itertools.chain.from_iterable(map(control_records, self._control.drain())):
            if isinstance(record, LostRecord):
                self.lost_control_records += record.count
            else:
                ordered.append(record)
        ordered.sort(key=lambda record: record.time_ns)
        ready = [record for record in ordered if record.time_ns < cut]
        self._late_control = ordered[len(ready) :]
        return ready

    def _drain_heap(self, cut: int) -> Batch:
        if self._heap is None:
            return self._late_heap
        batches = self._batches(self._heap, self._heap_reader)
        whole = np.concatenate([self._late_heap, *batches]) if batches else self._late_heap
        times = whole["time_ns"]
        if len(whole) > 1 and (times[1:] < times[:-1]).any():
            whole = whole[np.argsort(times, kind="stable")]
            times = whole["time_ns"]
        if not len(whole) or times[-1] < cut:
            self._late_heap = whole[:0]
            return whole
        ready = int(np.searchsorted(times, np.uint64(cut)))
        self._late_heap = whole[ready:].copy()
        return whole[:ready]

    def _drain_syscalls(self, cut: int) -> list[Batch]:
        batches = [*self._late_syscalls, *self._batches(self._syscalls, self._syscall_reader)]
        ready, self._late_syscalls = [], []
        for batch in batches:
            # The tracepoint cannot be preempted, so each CPU's events are in order.
            if batch["time_ns"][-1] < cut:
                ready.append(batch)
                continue
            count = int(np.searchsorted(batch["time_ns"], np.uint64(cut)))
            ready.append(batch[:count])
            self._late_syscalls.append(batch[count:])
        return [batch for batch in ready if len(batch)]

    @staticmethod
    def _batches(ring: Ring, reader: EventReader) -> list[Batch]:
        return list(itertools.chain.from_iterable(map(reader.events, ring.drain())))

    def close(self) -> None:
        self._poll.close()
        for ring in (self._control, self._syscalls, self._heap):
            if ring:
                ring.close()


@dataclass(slots=True)
class StackAssembler:
    """Puts the chunks of stack records together."""

    _parts: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def add(self, record: bytes) -> tuple[int, int, list[int]] | None:
        """(tgid, stack id, return addresses innermost first) once the last chunk has come."""
        chunk = np.frombuffer(record, events.STACK, 1)[0]
        key = (int(chunk["tgid"]), int(chunk["stack"]))
        frames = self._parts.setdefault(key, [])
        del frames[int(chunk["first"]) :]  # sent again from its start
        count = int(chunk["count"])
        frames.extend(chunk["frames"][:count].tolist())
        if count == events.STACK_CHUNK and len(frames) < events.MAX_FRAMES:
            return None
        return (*key, self._parts.pop(key))


def event_type(record: bytes) -> int:
    """The type with which each record of the BPF programs begins."""
    (kind,) = struct.unpack_from("B", record)
    return int(kind)


def by_process(batch: Batch) -> Iterable[tuple[int, Batch]]:
    """The events of each process, in their order."""
    tgids = batch["tgid"]
    if len(batch) and (tgids == tgids[0]).all():
        yield int(tgids[0]), batch
        return
    order = np.argsort(tgids, kind="stable")
    ordered = batch[order]
    starts = np.flatnonzero(np.diff(ordered["tgid"], prepend=np.uint32(0)))
    for start, end in itertools.pairwise([*starts.tolist(), len(ordered)]):
        yield int(ordered["tgid"][start]), ordered[start:end]
