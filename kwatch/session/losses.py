# SPDX-License-Identifier: Apache-2.0
"""Lost events by process and cause, as the BPF programs, the rings and the session count them."""

from __future__ import annotations

import mmap
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping

from kwatch.kernel import bpf
from kwatch.model.losses import (
    CONTROL_RING_FULL,
    MAPPING_RECORD_LOST,
    PROCESS_SKIPPED,
    PROCESS_UNKNOWN,
    heap_losses,
    may_hide_exit,
    name_of,
)
from kwatch.model.snapshot import Lost
from kwatch.rings.stream import Stream
from kwatch.wire.events import Loss
from kwatch.wire.maps import LossKey

#: The owners of losses that no known process has: any process, or one that is in no report.
_ANY, _UNREPORTED = 0, -1

_REST = 20  # all losses are read again after this many times the duration of a read

_Causes = dict[str, int]


class LossMap:
    """The counters by process and cause, in the kernel.

    While nothing was lost, no system call is made: many processes may end, each with many causes.
    """

    def __init__(self, counters: bpf.Map, any_losses: bpf.Map) -> None:
        self._counters = counters
        self._any = mmap.mmap(any_losses.fd, mmap.PAGESIZE, prot=mmap.PROT_READ)

    @property
    def _has_any(self) -> bool:
        return self._any[0] != 0

    def get(self, key: bytes) -> bytes | None:
        return self._counters.get(key) if self._has_any else None

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        return self._counters.items() if self._has_any else ()

    def delete(self, key: bytes) -> None:
        self._counters.delete(key)

    def close(self) -> None:
        self._any.close()


class LossCounters:
    """The counters in the kernel and in the stream.

    `mappings`: whether lost records of mappings and names count. `tracepoints`: the descriptors of
    the attached programs, by the cause that counts what they missed.
    """

    def __init__(
        self,
        counters: LossMap,
        stream: Stream,
        tracepoints: Mapping[str, list[int]],
        mappings: bool,
    ) -> None:
        self._counters = counters
        self._stream = stream
        self._tracepoints = tracepoints
        self._mappings = mappings
        self._forgotten_control = 0  # lost control records of processes that have ended
        self._disowned: Counter[Loss] = Counter()

    def read(self) -> dict[int, _Causes]:
        """Events lost since the start, by process and cause."""
        found: dict[int, _Causes] = defaultdict(Counter)
        for key, value in self._counters.items():
            lost = LossKey.from_buffer_copy(key)
            found[lost.tgid][name_of(Loss(lost.cause))] = struct.unpack("Q", value)[0]
        _add(found[_UNREPORTED], _named(self._disowned))
        _add(found[_ANY], self._lost_mappings(found))
        _add(found[_ANY], _named(+self._stream.undelivered))
        for cause, programs in self._tracepoints.items():
            if missed := sum(map(bpf.recursion_misses, programs)):
                found[_ANY][cause] = missed
        return found

    def of(self, pid: int) -> _Causes:
        """The losses of one process. This is fast even if many processes have losses."""
        return _named(self._of(pid))

    def forget(self, pid: int) -> None:
        """Removes the counters of an ended process: its pid may be reused."""
        self._forgotten_control += self._take(pid)[Loss.CONTROL_RING_FULL]

    def disown(self, pid: int, causes: Iterable[str]) -> None:
        """Counts the losses of a pid without a known process as those of an unknown process.

        `causes`: the names of those that were read.
        """
        self._disowned += self._take(pid, [Loss[name.upper()] for name in causes])

    def _lost_mappings(self, found: dict[int, _Causes]) -> _Causes:
        """Lost control records that the kernel itself wrote, not the BPF programs."""
        from_programs = sum(causes.get(CONTROL_RING_FULL, 0) for causes in found.values())
        rest = self._stream.lost_control_records - from_programs - self._forgotten_control
        return {MAPPING_RECORD_LOST: rest} if rest > 0 and self._mappings else {}

    def _of(self, pid: int, causes: Iterable[Loss] = Loss) -> Counter[Loss]:
        values = {cause: self._counters.get(bytes(LossKey(pid, cause))) for cause in causes}
        return Counter({cause: struct.unpack("Q", n)[0] for cause, n in values.items() if n})

    def _take(self, pid: int, causes: Iterable[Loss] = Loss) -> Counter[Loss]:
        taken = self._of(pid, causes)
        for cause in taken:
            self._counters.delete(bytes(LossKey(pid, cause)))
        return taken


class LossAccount:
    """The losses as reports show them; `refresh` reads them again.

    `known`: the pids of the session's processes. `unknown_events` returns how many events are in no
    report so far, `skipped_events` how many were left out with their process.
    `finished`: whether all events have been delivered.
    """

    def __init__(
        self,
        counters: LossCounters,
        stream: Stream,
        known: Container[int],
        unknown_events: Callable[[], int],
        skipped_events: Callable[[], int] = lambda: 0,
    ) -> None:
        self._counters = counters
        self._stream = stream
        self._known = known
        self._unknown_events = unknown_events
        self._skipped_events = skipped_events
        self._losses: dict[int, _Causes] = {}
        self._unknown_since: dict[int, int] = {}  # pids with losses and without a process
        self._next_refresh = 0.0
        self.finished = False

    def refresh(self) -> None:
        began = time.monotonic()
        self._losses = self._counters.read()
        unreported = self._losses.setdefault(_UNREPORTED, {})
        self._disown(unreported)
        if events := self._unknown_events():
            unreported[PROCESS_UNKNOWN] = events
        if events := self._skipped_events():
            unreported[PROCESS_SKIPPED] = events
        now = time.monotonic()
        self._next_refresh = now + _REST * (now - began)

    def refresh_of(self, pid: int) -> None:
        """Reads the losses of one process, or all losses if the last full read is old enough."""
        if time.monotonic() >= self._next_refresh:
            self.refresh()
        else:  # even if there are none: an earlier process with this pid may have had some
            self._losses[pid] = self._counters.of(pid)

    def of(self, pid: int) -> Lost:
        """The losses of the process and of unknown processes."""
        causes = self._sum(pid, _ANY, _UNREPORTED)
        return Lost(sum(causes.values()), causes)

    def of_heap(self, pid: int) -> Lost:
        """The losses that may make the numbers of the process's heap wrong."""
        return heap_losses(self._sum(pid, _ANY))

    @property
    def unreported(self) -> int:
        """How many events of processes that are in no report would have made a verdict unsure."""
        return heap_losses(self._sum(_UNREPORTED)).events

    def _sum(self, *owners: int) -> _Causes:
        causes: _Causes = {}
        for owner in owners:
            _add(causes, self._losses.get(owner, {}))
        return causes

    @property
    def may_hide_exit(self) -> bool:
        """Whether an exit may have been lost."""
        return any(map(may_hide_exit, self._losses.values()))

    def _disown(self, unreported: _Causes) -> None:
        """Counts the losses of processes that will never be known together."""
        now = time.monotonic_ns()
        unknown = [pid for pid in self._losses if pid > 0 and pid not in self._known]
        self._unknown_since = {pid: self._unknown_since.get(pid, now) for pid in unknown}
        for pid, since_ns in self._unknown_since.items():
            if self.finished or since_ns < self._stream.delivered_ns:
                self._counters.disown(pid, self._losses[pid])
                _add(unreported, self._losses.pop(pid))
            elif lost := self._losses[pid].get(CONTROL_RING_FULL):
                _add(unreported, {CONTROL_RING_FULL: lost})  # perhaps the process's fork


def _named(losses: Counter[Loss]) -> _Causes:
    return {name_of(cause): count for cause, count in losses.items()}


def _add(total: _Causes, causes: _Causes) -> None:
    for cause, count in causes.items():
        total[cause] = total.get(cause, 0) + count
