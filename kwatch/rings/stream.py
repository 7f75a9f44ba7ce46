# SPDX-License-Identifier: Apache-2.0
"""The rings as one stream in order of time.

A batch is cut at the moment before the rings were read: what happened before it and is visible
then is handed on, the rest stays for the next batch. An event is written before its thread goes
on, so whatever it caused (a free of a block, a fork's child) is cut with it or after it.
"""

from __future__ import annotations

import itertools
import select
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from kwatch.kernel.cpus import online_cpus
from kwatch.model.options import WatchOptions
from kwatch.programs.loader import Programs
from kwatch.rings.bpf_ring import BpfRings
from kwatch.rings.perf_ring import Control, ControlRecord, LostRecord, PerfRings, control_records
from kwatch.wire import events
from kwatch.wire.events import Batch, EventType, Loss, event_type

_CONTROL_SIZE = 1 << 20
_OF_STACKS = {EventType.STACK, EventType.STACK_MEMORY, EventType.CALL_STACK}
_PATIENCE_NS = 1_000_000_000
_MAX_LATE = 4096
_AT_ONCE = 512  # control records, each of which may take a millisecond: signals wait meanwhile
_MAX_WAITING = 32768
_MAX_S = 0.25  # that a new stack, which wakes nobody, waits for its names
_UNCONCERNED_S = 0.001  # between two looks at what does not concern anybody
_MIN_STACKS, _MAX_STACKS, _ALL_STACKS = 1 << 20, 16 << 20, 64 << 20  # bytes


@dataclass(slots=True)
class Drained:
    """One batch: control records and heap events in order of time, system calls in any order.

    Stacks are among the control records. The events are views of the rings.
    """

    control: list[Control] = field(default_factory=list)
    heap: Batch = field(default_factory=lambda: np.empty(0, events.HEAP))
    syscalls: list[Batch] = field(default_factory=list)


class Stream:
    """Opens the rings of the loaded programs and reads them."""

    def __init__(self, programs: Programs, options: WatchOptions) -> None:
        maps, size = programs.maps, options.buffer
        named = options.names_programs
        self._control = PerfRings(maps["control_ring"], _CONTROL_SIZE, mappings=named)
        call = events.STACKED_SYSCALL if options.call_stacks else events.SYSCALL
        self._syscalls = BpfRings(maps["syscall_rings"], size, call)
        heap = maps.get("heap_rings")
        self._heap = BpfRings(heap, size, events.HEAP) if heap else None
        stacks = maps.get("stack_ring")
        size = _stack_ring_size()
        self._stacks = PerfRings(stacks, size, size // 4) if stacks else None
        self._late_control: list[Control] = []
        self._late_stacks: list[ControlRecord] = []  # apart: many of them must hold up nothing else
        self._has_more = False  # control records, than were handed on last
        self._is_behind = False  # something that has come is to be handed on as soon as it can be
        self.delivered_ns = 0  # what happened before has been handed on
        self.lost_control_records = 0
        self.undelivered: Counter[Loss] = Counter()  # written, but never to be read
        self.takes_stacks = True  # else they stay in their ring, as long as there is room
        self._poll = select.epoll()
        self._control_fds = set(self._control.descriptors)
        for fd in self._control_fds:
            self._poll.register(fd, select.EPOLLIN)
        for fd in self._stacks.descriptors if self._stacks is not None else ():
            self._poll.register(fd, select.EPOLLIN)
        #: By what is counted when one is full.
        self._data_rings = {Loss.SYSCALL_RING_FULL: self._syscalls}
        if self._heap is not None:
            self._data_rings[Loss.HEAP_RING_FULL] = self._heap
        for ring in self._data_rings.values():
            for fd in ring.descriptors:
                self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def watch(self, fd: int) -> None:
        """Lets `wait` also return when this descriptor is readable."""
        self._poll.register(fd, select.EPOLLIN)

    def wait(self, seconds: float, concerns: Callable[[Control], bool]) -> set[int]:
        """Descriptors that became readable, at the latest after `seconds`.

        The kernel tells of every process that maps code. Control records of which none `concerns`
        anybody end no wait, and are handed on with the next one that does.
        """
        longest = _UNCONCERNED_S if self._is_behind else _MAX_S
        until = time.monotonic() + min(seconds, longest)
        while True:
            ready = {fd for fd, _ in self._poll.poll(max(0.0, until - time.monotonic()))}
            new = self._read_control() if not self._control_fds.isdisjoint(ready) else []
            self._late_control += new
            full = len(self._late_control) > _MAX_LATE
            if not ready or ready - self._control_fds or full or any(map(concerns, new)):
                return ready
            time.sleep(_UNCONCERNED_S)

    def look_ahead(self) -> list[Control]:
        """Control records that have come since the last look; they are delivered all the same."""
        new = self._read_control()
        self._late_control += new
        return new

    def deliver(self, apply: Callable[[Drained], None]) -> None:
        """Hands on everything that happened until now; `apply` keeps no view of it."""
        self._deliver(apply, self._now())

    def deliver_rest(
        self, apply: Callable[[Drained], None], is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """What is left once nothing new comes, for which a preempted writer is waited for.

        Only so long: what is hidden behind its record then is lost. So is what `is_wanted` ends.
        """
        now, patient = self._now(), True
        while self._deliver(apply, now, patient) < now and is_wanted():
            if not self._has_more:
                patient = time.monotonic_ns() - now < _PATIENCE_NS
                time.sleep(0)
        self.undelivered.update({cause: ring.left for cause, ring in self._data_rings.items()})
        # What the kernel tells of after that, it tells of others: kwatch traces nothing any more.
        unread = (*self._late_control, *self._drain_control())
        self.undelivered[Loss.CONTROL_RING_FULL] += sum(one.time_ns < now for one in unread)

    def _now(self) -> int:
        for ring in self._data_rings.values():
            ring.mark()
        return time.monotonic_ns()

    def _deliver(self, apply: Callable[[Drained], None], now: int, patient: bool = True) -> int:
        """Returns until when it was everything. `now` is what `_now` said last.

        Who is not `patient` gets also what is younger than an event that is hidden.
        """
        complete = min(ring.complete_until(now) for ring in self._data_rings.values())
        control, cut = self._control_until(complete if patient else now)
        marked = cut == now
        heap = self._heap.read(cut, marked) if self._heap is not None else []
        calls = self._syscalls.read(cut, marked)
        apply(Drained(control, _in_order(heap), calls))
        for ring in self._data_rings.values():
            ring.release()
        self._is_behind = cut < now or bool(self._late_control or self._late_stacks)
        self.delivered_ns = cut
        return cut

    def _control_until(self, cut: int) -> tuple[list[Control], int]:
        """Those before the cut, which is an earlier one if they are many: then there are more."""
        ordered = [*self._late_control, *self._read_control()]
        ordered.sort(key=_time_of)
        count = bisect_left(ordered, cut, key=_time_of)
        self._has_more = count > _AT_ONCE
        if self._has_more:
            cut = max(ordered[_AT_ONCE].time_ns, ordered[0].time_ns + 1)
            count = bisect_left(ordered, cut, key=_time_of)
        ready, self._late_control = ordered[:count], ordered[count:]
        if self.takes_stacks:
            ready = sorted([*ready, *self.read_stacks(cut)], key=_time_of)
        return ready, cut

    def _read_control(self) -> list[Control]:
        """Nothing while very many wait: the rest stays in its ring, which counts what it loses."""
        return self._drain_control() if len(self._late_control) < _MAX_WAITING else []

    def _drain_control(self) -> list[Control]:
        found: list[Control] = []
        for record in itertools.chain.from_iterable(map(control_records, self._control.drain())):
            if isinstance(record, LostRecord):
                self.lost_control_records += record.count
            else:
                found.append(record)
        return found

    def read_stacks(self, before_ns: float) -> list[ControlRecord]:
        """What has come into the stacks' ring from before a moment, in order of time."""
        drained = self._stacks.drain() if self._stacks is not None else []
        records = itertools.chain.from_iterable(map(control_records, drained))
        # What was lost, the program has counted.
        if new := [record for record in records if isinstance(record, ControlRecord)]:
            self._late_stacks = sorted([*self._late_stacks, *new], key=_time_of)
        count = bisect_left(self._late_stacks, before_ns, key=_time_of)
        found, self._late_stacks = self._late_stacks[:count], self._late_stacks[count:]
        return found

    def close(self) -> None:
        self._poll.close()
        for ring in (self._control, self._syscalls, self._heap, self._stacks):
            if ring:
                ring.close()


def _stack_ring_size() -> int:
    """A program that starts has many new stacks while its tables are being made."""
    share = _ALL_STACKS // len(online_cpus())
    return min(max(1 << share.bit_length() - 1, _MIN_STACKS), _MAX_STACKS)


def _in_order(batches: list[Batch]) -> Batch:
    """The batches as one in order of time; one alone that is in order is not copied."""
    if not batches:
        return np.empty(0, events.HEAP)
    whole = batches[0] if len(batches) == 1 else np.concatenate(batches)
    times = np.ascontiguousarray(whole["time_ns"])
    return whole[np.argsort(times, kind="stable")] if (times[1:] < times[:-1]).any() else whole


def is_stack(record: ControlRecord) -> bool:
    """Whether the record comes from the stacks' ring."""
    return event_type(record.data) in _OF_STACKS


def _time_of(record: Control) -> int:
    return record.time_ns


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
