# SPDX-License-Identifier: Apache-2.0
"""Reads the sums of system calls that BPF programs keep: bpf/call_sums.h is the other side.

The sums only grow. What they have grown by since they were last read is handed on like events, with
the time of the first call, so that it reaches the process that had the pid then. A process that
has ended makes no more calls: its sums are final, and their places are freed. Under pressure, sums
that do not grow are freed too.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.call_sums import CALL_SUM
from kwatch.errors import KwatchError
from kwatch.kernel import bpf
from kwatch.kernel.cpus import online_cpus
from kwatch.kernel.grace_period import GracePeriods, Retired
from kwatch.kernel.joined_mapping import JoinedMapping
from kwatch.kernel.privileges import cure_of
from kwatch.rings.perf_ring import Control, ControlRecord
from kwatch.wire import events
from kwatch.wire.events import Batch, EventType, event_type
from kwatch.wire.maps import (
    CALL_SUMS,
    SUM_BUCKETS,
    SUM_IN_USE,
    SUM_RANGE_SHIFT,
    SUM_RETIRED,
    CallSum,
    CallSumKey,
    CallSums,
    CallSumState,
)

_WINDOW_S = 1.0
_U32 = struct.Struct("<I")
_TGID_AT = 12  # in struct kwatch_control
_AFTER_HEAD = events.CONTROL.itemsize
_SIZE = -(-ctypes.sizeof(CallSums) // mmap.PAGESIZE) * mmap.PAGESIZE

# A sum as an array of its members.
_TIME, _TOTAL, _MAX, _ERRORS = 0, 1, 2, 3
_BUCKETS = CallSum.buckets.offset // 8

_TABLE = np.dtype(
    {
        "names": ["keys", "sums"],
        "formats": [
            (np.dtype(CallSumKey), CALL_SUMS),
            (np.dtype("u8"), (CALL_SUMS, _BUCKETS + SUM_BUCKETS)),
        ],
        "offsets": [CallSums.keys.offset, CallSums.sums.offset],
        "itemsize": _SIZE,
    }
)

_Places = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # the table of a CPU, and in it

_NOTHING: Batch = np.empty(0, CALL_SUM)


class CallSumTables:
    """The tables of all CPUs."""

    def __init__(self, tables: bpf.Map, state: bpf.Map) -> None:
        """`tables`: the array that will hold them, by CPU. Raises KwatchError."""
        self._state_memory = mmap.mmap(state.fd, mmap.PAGESIZE)
        self._state = CallSumState.from_buffer(self._state_memory)
        self._unpreempted = tables.unpreempted
        self._periods: GracePeriods | None = None
        self._fds: list[int] = []
        try:
            self._memory = self._mapped(tables)
        except OSError as error:
            self._close_maps()
            raise KwatchError(
                f"the sums of system calls cannot be kept: {error.strerror}", cure_of(error)
            ) from error
        whole = np.frombuffer(memoryview(self._memory.buffer), _TABLE)
        self._processes = whole["keys"]["process"]
        self._calls = whole["keys"]["call"]
        self._sums = whole["sums"]
        self._taken = np.zeros(self._sums.shape, np.uint64)  # what has been handed on
        self._has_grown = np.zeros(self._calls.shape, bool)  # in this window
        self._next_window = 0.0
        self._leaving: list[_Places] = []
        self._retired: Retired[_Places] | None = None

    def _mapped(self, tables: bpf.Map) -> JoinedMapping:
        shape = bpf.MapShape(bpf.MAP_TYPE_ARRAY, 4, ctypes.sizeof(CallSums), 1, bpf.MAP_MMAPABLE)
        for cpu in online_cpus():
            self._fds.append(bpf.create_map("call_sums", shape))
            tables.set(struct.pack("I", cpu), struct.pack("I", self._fds[-1]))
        return JoinedMapping(self._fds, _SIZE, writable=True)

    @property
    def are_due(self) -> bool:
        """Whether all sums should be read, so that idle ones can make room."""
        return time.monotonic() >= self._next_window

    def read(self, before_ns: int, control: Iterable[Control] = (), whole: bool = True) -> Batch:
        """What was added to the sums that were begun before a moment: CALL_SUM, by time.

        If not `whole`, only to those of processes that these control records may end.
        """
        ends = _ends(control)
        self._release()
        if not whole and not ends:
            return _NOTHING
        released = self._retired.released() if whole and self._retired is not None else []
        found = self._take(before_ns, None if whole else ends)
        for places in released:
            self._free(places)
        if ends:
            self._free_ended(ends)
        if whole and self.are_due:
            self._begin_window(before_ns)
        return found

    @property
    def left(self) -> int:
        """How many calls have not been handed on."""
        places = self._used(None)
        grown = self._sums[places] - self._taken[places]
        return int(grown[:, _BUCKETS:].sum())

    def _take(self, before_ns: int, pids: Mapping[int, int] | None) -> Batch:
        places = self._used(pids)
        sums, taken = self._sums[places], self._taken[places]
        begun_ns = sums[:, _TIME]  # 0: not yet visible to this CPU
        new = (sums != taken).any(axis=1) & (begun_ns > 0) & (begun_ns < np.uint64(before_ns))
        if not new.any():
            return _NOTHING
        cpus, numbers = places[0][new], places[1][new]
        sums, taken = sums[new], taken[new]
        self._taken[cpus, numbers] = sums
        self._has_grown[cpus, numbers] = True
        calls, added = self._calls[cpus, numbers], sums - taken
        found = np.empty(len(cpus), CALL_SUM)
        found["tgid"] = self._processes[cpus, numbers]  # its lower half
        found["call"] = calls & np.uint32((1 << SUM_RANGE_SHIFT) - 1)
        found["range"] = (calls & np.uint32(SUM_RETIRED - 1)) >> np.uint32(SUM_RANGE_SHIFT)
        found["time_ns"], found["max_ns"] = sums[:, _TIME], sums[:, _MAX]
        found["total_ns"], found["errors"] = added[:, _TOTAL], added[:, _ERRORS]
        found["buckets"] = added[:, _BUCKETS:]
        found["calls"] = found["buckets"].sum(axis=1)
        return found[np.argsort(found["time_ns"], kind="stable")]

    def _used(self, pids: Mapping[int, int] | None) -> _Places:
        """Where there are sums: all of them, or those of some processes."""
        cpus, numbers = np.nonzero(self._calls & np.uint32(SUM_IN_USE))
        if pids is None:
            return cpus, numbers
        tgids = self._processes[cpus, numbers].astype(np.uint32)
        wanted = np.isin(tgids, np.fromiter(pids, np.uint32, len(pids)))
        return cpus[wanted], numbers[wanted]

    def _free_ended(self, ends: Mapping[int, int]) -> None:
        """Frees what has been handed on of processes that have ended."""
        cpus, numbers = self._used(ends)
        tgids = self._processes[cpus, numbers].astype(np.uint32).tolist()
        ended_ns = np.array([ends[tgid] for tgid in tgids], np.uint64)
        over = self._taken[cpus, numbers, _TIME] < ended_ns
        over &= self._taken[cpus, numbers, _TIME] > 0
        over &= (self._calls[cpus, numbers] & np.uint32(SUM_RETIRED)) == 0  # freed soon anyway
        self._free((cpus[over], numbers[over]))

    def _free(self, places: _Places) -> None:
        """No program can find these sums any more. Others may use the places after the next read.

        The zeros must arrive in memory before, and Python has no barrier for that.
        """
        self._calls[places] = 0
        self._sums[places] = 0
        self._taken[places] = 0
        self._leaving.append(places)

    def _release(self) -> None:
        for places in self._leaving:
            self._processes[places] = 0
        self._leaving.clear()

    def _begin_window(self, before_ns: int) -> None:
        self._next_window = time.monotonic() + _WINDOW_S
        self._state.window += 1
        if self._state.is_full:
            self._state.is_full = 0
            self._retire(before_ns)
        self._has_grown[:] = False

    def _retire(self, before_ns: int) -> None:
        """Makes room: sums that do not grow are handed on once more when no program uses them."""
        in_use = np.uint32(SUM_IN_USE | SUM_RETIRED)
        is_idle = (self._calls & in_use) == np.uint32(SUM_IN_USE)
        is_idle &= ~self._has_grown & (self._sums[:, :, _TIME] < np.uint64(before_ns))
        places = np.nonzero(is_idle)
        if len(places[0]):
            self._calls[places] |= np.uint32(SUM_RETIRED)
            if self._periods is None:
                self._periods = GracePeriods(self._unpreempted)
                self._retired = Retired(self._periods)
            assert self._retired is not None
            self._retired.add((places[0], places[1]))

    def _close_maps(self) -> None:
        for fd in self._fds:
            os.close(fd)
        del self._state
        with contextlib.suppress(BufferError):  # the traceback of an exception may hold a view
            self._state_memory.close()

    def close(self) -> None:
        if self._periods is not None:
            self._periods.close()
        del self._processes, self._calls, self._sums
        self._memory.close()
        self._close_maps()


def _ends(control: Iterable[Control]) -> dict[int, int]:
    """By pid, until when the calls were those of a process that has ended.

    0: it may have, or has made an exec.
    """
    found: dict[int, int] = {}
    for record in control:
        if not isinstance(record, ControlRecord):
            continue
        kind, pid = event_type(record.data), _U32.unpack_from(record.data, _TGID_AT)[0]
        if kind == EventType.EXIT:
            found[pid] = record.time_ns
        elif kind == EventType.EXEC:
            stays = _U32.unpack_from(record.data, _AFTER_HEAD)[0]  # `matched`
            found[pid] = max(found.get(pid, 0), 0 if stays else record.time_ns)
        elif kind == EventType.FORK:  # an earlier process with the child's pid
            found[_U32.unpack_from(record.data, _AFTER_HEAD)[0]] = record.time_ns
    return found
