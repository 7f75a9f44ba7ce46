# SPDX-License-Identifier: Apache-2.0
"""The rings as one stream in order of time.

A batch ends at a time just before the rings are read: earlier events are delivered, later ones stay
for the next batch. An event is written before its thread continues, so whatever it caused (the free
of a block, the child of a fork) is in the same batch or a later one.
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
from kwatch.model.options import TraceOptions
from kwatch.programs.loader import Programs
from kwatch.programs.sources import CALL_SUMS, EVENT_SOURCES, HEAP, SYSCALLS, TAKE_YOUNG
from kwatch.rings.call_areas import CallAreas
from kwatch.rings.call_sums import CallSumTables
from kwatch.rings.data_rings import DataRings, event_of, ring_size
from kwatch.rings.mapped_ring import Doorbell
from kwatch.rings.perf_ring import Control, ControlRecord, LostRecord, PerfRings, control_records
from kwatch.rings.young_blocks import YoungBlocks
from kwatch.wire.batches import chosen, concatenated
from kwatch.wire.events import Batch, Loss

_CONTROL_SIZE = 1 << 20
_PATIENCE_NS = 1_000_000_000
_MAX_LATE = 4096
_AT_ONCE = 512  # control records; each may take a millisecond, and signals wait meanwhile
_MAX_WAITING = 32768
_MAX_STACKS_WAITING = 4096  # records of stacks; further ones stay in their ring, which fills up
_STACKS_AT_ONCE = 1 << 20  # bytes of the stack ring of a CPU
_MAX_S = 0.25  # a new stack, which does not end a wait, waits at most this long
_UNCONCERNED_S = 0.001  # between reads of control records that concern no target
_MIN_STACKS, _MAX_STACKS, _ALL_STACKS = 1 << 20, 16 << 20, 64 << 20  # bytes

_HALF = 0.5

_NO_EVENTS: Batch = np.empty(0, [("time_ns", "u8"), ("tgid", "u4")])


@dataclass(slots=True)
class Drained:
    """One batch: control and stack records in order of time, and events by source.

    The events of an ordered source (kwatch.programs.sources) are one array in order of time; the
    events of another source are one array for each CPU. They are views of the rings. CALL_SUMS are
    what system calls have added to their sums.
    `is_crowded`: system-wide, there are more control records than can be applied in time.
    """

    control: list[Control] = field(default_factory=list)
    stacks: list[ControlRecord] = field(default_factory=list)
    ordered: dict[str, Batch] = field(default_factory=dict)
    unordered: dict[str, list[Batch]] = field(default_factory=dict)
    is_crowded: bool = False


class Stream:
    """Opens the rings of the loaded programs and reads them."""

    def __init__(self, programs: Programs, options: TraceOptions) -> None:
        maps = programs.maps
        named = options.names_programs
        self._control = PerfRings(maps["control_ring"], _CONTROL_SIZE, mappings=named)
        areas = maps.get("capture_areas")
        self.areas = (
            CallAreas(areas, maps["capture_area"], maps["area_positions"]) if areas else None
        )
        self._rings = {
            source: DataRings(
                maps[source.ring],
                maps.get(source.positions),
                ring_size(source, options),
                event_of(source, options),
                self.areas.release if self.areas is not None and source.name == SYSCALLS else None,
            )
            for source in EVENT_SOURCES
            if source.ring in maps
        }
        self._young: YoungBlocks | None = None
        if "young_blocks" in maps:
            taker = programs.programs[TAKE_YOUNG]
            self._young = YoungBlocks(maps, taker, options.alloc_totals)
        tables = maps.get("call_sum_tables")
        self._sums = CallSumTables(tables, maps["call_sum_state"]) if tables is not None else None
        doorbell = maps.get("doorbell")
        self._doorbell = Doorbell(doorbell.fd) if doorbell is not None else None
        stacks = maps.get("stack_ring")
        size = _stack_ring_size()
        self._stacks = PerfRings(stacks, size, size // 4) if stacks else None
        self._late_control: list[Control] = []
        self._late_stacks: list[ControlRecord] = []  # separate: many must not delay the others
        self._takes_all = options.system_wide  # the session skips most of very many records
        self._is_crowded = False
        self._has_more = False  # control records that the last batch left over
        self._is_behind = False  # records or events that have arrived are not delivered yet
        self.delivered_ns = 0  # all earlier events have been delivered
        self.lost_control_records = 0
        self.undelivered: Counter[Loss] = Counter()  # written, but never read
        self._poll = select.epoll()
        self._control_fds = set(self._control.descriptors)
        for fd in self._control_fds:
            self._poll.register(fd, select.EPOLLIN)
        for fd in self._stacks.descriptors if self._stacks is not None else ():
            self._poll.register(fd, select.EPOLLIN)
        for ring in self._rings.values():
            for fd in ring.descriptors:
                self._poll.register(fd, select.EPOLLIN | select.EPOLLET)
        if self._doorbell is not None:
            self._poll.register(self._doorbell.fd, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Makes `wait` also return when this descriptor is readable."""
        self._poll.register(fd, select.EPOLLIN)

    def wait(self, seconds: float, concerns: Callable[[Control], bool]) -> set[int]:
        """Returns the descriptors that became readable, after at most `seconds`.

        The kernel reports every process that maps code. Control records do not end the wait unless
        `concerns` is true for one; they are delivered with the next one for which it is.
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
        """Control records that have arrived since the last read; they are delivered later too."""
        new = self._read_control()
        self._late_control += new
        return new

    def deliver(
        self,
        apply: Callable[[Drained], None],
        with_stacks: bool = True,
        with_sums: bool = False,
    ) -> None:
        """Delivers everything that happened until now; `apply` must not keep views of it.

        Without `with_stacks`, stack records stay in their ring, which may fill up. Without
        `with_sums`, sums of system calls may be a second old, but not those of processes that end.
        """
        whole = with_sums or (self._sums is not None and self._sums.are_due)
        self._deliver(apply, self._now(), with_stacks=with_stacks, with_sums=whole)

    def deliver_rest(
        self, apply: Callable[[Drained], None], is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Delivers the remaining events after the tracepoints are detached.

        Waits a limited time for a preempted writer; events hidden behind its record are lost after
        that. Events that are left when `is_wanted` becomes false are lost as well.
        """
        now, patient = self._now(), True
        while self._deliver(apply, now, patient) < now and is_wanted():
            if not self._has_more:
                patient = time.monotonic_ns() - now < _PATIENCE_NS
                time.sleep(0)
        left = {Loss[source.loss]: ring.left for source, ring in self._rings.items()}
        self.undelivered.update(left)
        if self._young is not None:
            self.undelivered[Loss.HEAP_RING_FULL] += self._young.left(now)
        if self._sums is not None:
            self.undelivered[Loss.SYSCALL_RING_FULL] += self._sums.left
        # Later records are about other processes: kwatch traces nothing any more.
        unread = (*self._late_control, *self._drain_control())
        self.undelivered[Loss.CONTROL_RING_FULL] += sum(one.time_ns < now for one in unread)

    def _now(self) -> int:
        if self._doorbell is not None:
            self._doorbell.silence()
        for ring in self._rings.values():
            ring.mark()
        return time.monotonic_ns()

    def _deliver(
        self,
        apply: Callable[[Drained], None],
        now: int,
        patient: bool = True,
        with_stacks: bool = True,
        with_sums: bool = True,
    ) -> int:
        """Delivers a batch; returns the time until which it is complete.

        `now` is the last result of `_now`. If not `patient`, events that are younger than a hidden
        event are delivered too.
        """
        if self._young is not None:
            self._young.take()
        complete = min(ring.complete_until(now) for ring in self._rings.values())
        control, cut = self._control_until(complete if patient else now)
        stacks = self.read_stacks(cut) if with_stacks else []
        drained = Drained(control, stacks, is_crowded=self._is_crowded)
        for source, ring in self._rings.items():
            batches = ring.read(cut, marked=cut == now)
            if source.name == HEAP and self._young is not None:
                batches.append(self._young.read(cut))
            if source.ordered:
                drained.ordered[source.name] = _in_order(batches)
            else:
                drained.unordered[source.name] = batches
        if self._sums is not None:  # after the records of exits
            drained.unordered[CALL_SUMS] = [self._sums.read(cut, control, with_sums)]
        apply(drained)
        for ring in self._rings.values():
            ring.release()
        is_waiting = bool(self._late_control or self._late_stacks)
        self._is_behind = cut < now or is_waiting or self._has_more_stacks
        self.delivered_ns = cut
        return cut

    def _control_until(self, cut: int) -> tuple[list[Control], int]:
        """The control records before the cut, and the cut, which is earlier if they are many."""
        ordered = [*self._late_control, *self._read_control()]
        ordered.sort(key=_time_of)
        count = bisect_left(ordered, cut, key=_time_of)
        self._is_crowded = self._takes_all and count > _AT_ONCE
        self._has_more = count > _AT_ONCE and not self._is_crowded
        if self._has_more:
            cut = max(ordered[_AT_ONCE].time_ns, ordered[0].time_ns + 1)
            count = bisect_left(ordered, cut, key=_time_of)
        ready, self._late_control = ordered[:count], ordered[count:]
        return ready, cut

    def _read_control(self) -> list[Control]:
        """Reads nothing while very many wait: the rest stays in the ring, which counts losses."""
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
        """Returns the records of the stack ring from before a moment, in order of time.

        While very many later ones wait, those in the ring are later, too, and stay there.
        """
        found = self._waiting_stacks(before_ns)
        if self._stacks is None or len(self._late_stacks) >= _MAX_STACKS_WAITING:
            return found
        drained = self._stacks.drain(_STACKS_AT_ONCE)
        records = itertools.chain.from_iterable(map(control_records, drained))
        # The BPF program counts the lost ones.
        if new := [record for record in records if isinstance(record, ControlRecord)]:
            self._late_stacks = sorted([*found, *self._late_stacks, *new], key=_time_of)
            found = self._waiting_stacks(before_ns)
        return found

    def _waiting_stacks(self, before_ns: float) -> list[ControlRecord]:
        if not self._late_stacks or self._late_stacks[0].time_ns >= before_ns:
            return []
        count = bisect_left(self._late_stacks, before_ns, key=_time_of)
        found, self._late_stacks = self._late_stacks[:count], self._late_stacks[count:]
        return found

    @property
    def _has_more_stacks(self) -> bool:
        return self._stacks is not None and not self._stacks.is_empty

    def has_room(self) -> bool:
        """Whether every ring of events and of control records is less than half full."""
        fills = [self._control.fill, *(ring.fill for ring in self._rings.values())]
        return max(fills) < _HALF

    def close(self) -> None:
        self._poll.close()
        rings = *self._rings.values(), self._stacks, self._sums, self._young, self.areas
        for part in (self._control, *rings, self._doorbell):
            if part is not None:
                part.close()


def _stack_ring_size() -> int:
    """Large, since a starting program has many new stacks while its tables are being built."""
    share = _ALL_STACKS // len(online_cpus())
    return min(max(1 << share.bit_length() - 1, _MIN_STACKS), _MAX_STACKS)


def _in_order(batches: list[Batch]) -> Batch:
    """Merges the batches in order of time. A single batch that is in order is not copied."""
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        return _NO_EVENTS
    whole = batches[0] if len(batches) == 1 else concatenated(batches)
    times = np.ascontiguousarray(whole["time_ns"])
    is_in_order = bool((times[1:] >= times[:-1]).all())
    return whole if is_in_order else chosen(whole, np.argsort(times, kind="stable"))


def _time_of(record: Control) -> int:
    return record.time_ns


def by_process(batch: Batch) -> Iterable[tuple[int, Batch]]:
    """The events of each process, in their original order."""
    tgids = batch["tgid"]
    if len(batch) and (tgids == tgids[0]).all():
        yield int(tgids[0]), batch
        return
    order = np.argsort(tgids, kind="stable")
    ordered = chosen(batch, order)
    starts = np.flatnonzero(np.diff(ordered["tgid"], prepend=np.uint32(0)))
    for start, end in itertools.pairwise([*starts.tolist(), len(ordered)]):
        yield int(ordered["tgid"][start]), ordered[start:end]
