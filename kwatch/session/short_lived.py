# SPDX-License-Identifier: Apache-2.0
"""Skips processes that begin and end within one batch, when there are too many to follow.

Each process costs kwatch about a millisecond, and a program can make thousands in a second.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

import numpy as np

from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.rings.perf_ring import Control, ControlRecord
from kwatch.rings.stream import Drained
from kwatch.session.ended import EndedProcesses
from kwatch.wire import events
from kwatch.wire.events import EventType, count_events, event_type

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TIME_AT, _TGID_AT = 4, 12  # in struct kwatch_control
_CHILD_AT = events.CONTROL.itemsize
_COMM_AT = events.EXIT.itemsize - events.COMM_LEN
_MAX_REMEMBERED = 65536


class ShortLived:
    """Their system calls are counted by name; their heap events are lost (`skipped_events`)."""

    def __init__(self, process_table: ProcessTable, ended: EndedProcesses) -> None:
        self.skipped_events = 0
        self._process_table = process_table
        self._ended = ended
        self._skipped_until: dict[int, int] = {}  # pids, whose stacks may come much later
        self._sharing: list[tuple[list[int], bool]] = []  # and whether of the last batch

    def skip(self, drained: Drained) -> None:
        """Removes from a crowded batch all short-lived processes but their system calls."""
        self._unshare()
        self._ended.next_batch()
        if not drained.is_crowded or not drained.control:
            return
        found = short_lived(drained.control)
        names = {pid: comm for pid, comm in found.items() if pid not in self._process_table}
        for pid, comm in names.items():
            name = self._ended.of(comm)
            name.processes += 1
            name.skipped += 1
            self._process_table.share_slot(pid, name.slot)
        self._sharing.append((list(names), True))
        self._remember(names, drained.control[-1].time_ns)
        drained.control = [one for one in drained.control if _pid_of(one) not in names]
        pids = np.array(list(names), np.uint32)
        for source, batch in drained.ordered.items():
            kept = ~np.isin(batch["tgid"], pids)
            self.skipped_events += count_events(batch[~kept])
            drained.ordered[source] = batch[kept]

    def was_skipped(self, stack: bytes) -> bool:
        """Whether this record of the stack ring is of a process that was skipped."""
        pid: int = _U32.unpack_from(stack, _TGID_AT)[0]
        time_ns: int = _U64.unpack_from(stack, _TIME_AT)[0]
        return time_ns < self._skipped_until.get(pid, 0)

    def _remember(self, pids: Iterable[int], until_ns: int) -> None:
        for pid in pids:
            self._skipped_until.pop(pid, None)
            self._skipped_until[pid] = until_ns
        while len(self._skipped_until) > _MAX_REMEMBERED:
            del self._skipped_until[next(iter(self._skipped_until))]

    def leave_out(self, process: Process) -> None:
        """Counts a process that has ended and gets no report."""
        self._ended.of(process.facts.comm).skipped += 1
        if process.heap is not None:
            self.skipped_events += process.heap.allocs + process.heap.frees

    def _unshare(self) -> None:
        """Their last events may come with the batch after theirs, but not later."""
        self._sharing, leaving = [], self._sharing
        for pids, is_new in leaving:
            if is_new:
                self._sharing.append((pids, False))
            else:
                for pid in pids:
                    self._process_table.unshare_slot(pid)


def short_lived(control: Iterable[Control]) -> dict[int, str]:
    """The name, by pid, of each process whose whole life is in these records.

    Not if its pid was reused within them.
    """
    begun: set[int] = set()
    names: dict[int, str] = {}
    reused: set[int] = set()
    for record in control:
        if not isinstance(record, ControlRecord):
            continue
        kind, pid = event_type(record.data), _pid_of(record)
        if kind == EventType.FORK:
            (reused if pid in begun or pid in names else begun).add(pid)
        elif kind == EventType.EXIT and pid in begun:
            begun.discard(pid)
            names[pid] = os.fsdecode(record.data[_COMM_AT:].split(b"\0", 1)[0])
        elif kind == EventType.EXIT:
            reused.add(pid)
    return {pid: name for pid, name in names.items() if pid not in reused}


def _pid_of(record: Control) -> int:
    """The process that a record is about: of a fork, the child."""
    if not isinstance(record, ControlRecord):
        return record.pid
    is_fork = event_type(record.data) == EventType.FORK
    pid: int = _U32.unpack_from(record.data, _CHILD_AT if is_fork else _TGID_AT)[0]
    return pid
