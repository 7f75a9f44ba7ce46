# SPDX-License-Identifier: Apache-2.0
"""The threads' slots, which the BPF programs keep: see bpf/slots.h."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.kernel import bpf
from kwatch.procfs.current_call import current_call, is_alive, thread_ids
from kwatch.wire.maps import (
    CallInProgress,
    CallState,
    KeptPieces,
    NotedThread,
    RecordedCall,
    Slot,
    SlotState,
)

_SLOT = np.dtype(Slot)


class RecordedSlot(ctypes.Structure):
    """The first members of a slot where calls are recorded."""

    _fields_ = (("slot", Slot), ("recorded", RecordedCall))


class KeptCall(NamedTuple):
    """A recorded call, and what was kept of it if `recorded.flags` has KEPT."""

    call: CallInProgress
    recorded: RecordedCall
    kept: KeptPieces


class ThreadSlots:
    """What is known of each thread, and notes on threads that have no slot yet."""

    def __init__(self, maps: Mapping[str, bpf.Map]) -> None:
        self._noted = maps["noted_threads"]
        self._spilled = maps["spilled_slots"]
        self._table = maps.get("slots")
        self._state_memory = mmap.mmap(maps["slot_state"].fd, mmap.PAGESIZE)
        self._state = SlotState.from_buffer(self._state_memory)
        self._state.generation = 1  # that of no new slot

    def renew(self) -> None:
        """Makes each thread look up at its next event whether its process is a target."""
        self._state.generation += 1

    def note_threads(self, pid: int) -> None:
        """Notes which threads of a new target are in a call, whose return does not count.

        A thread that is not noted is taken to be in one when its next call returns: a call that a
        filter has refused would not count.
        """
        for tid in thread_ids(pid):
            call = current_call(pid, tid)
            state = CallState.NONE if call is None else CallState.BEGAN_EARLIER
            key = struct.pack("I", tid)
            try:
                added = self._noted.add(key, bytes(NotedThread(pid, state)))
            except OSError:
                return  # the map is full
            if added and not is_alive(pid, tid):
                self._noted.delete(key)

    def calls(self) -> Iterator[CallInProgress]:
        """The last call of each thread that has entered one."""
        for value in self._slots():
            slot = Slot.from_buffer_copy(value)
            if slot.call.state != CallState.UNSEEN:
                yield slot.call

    def recorded(self) -> Iterator[KeptCall]:
        """The same with their arguments, where calls are recorded."""
        for value in self._slots():
            slot = RecordedSlot.from_buffer_copy(value)
            kept = KeptPieces.from_buffer_copy(value, len(value) - ctypes.sizeof(KeptPieces))
            if slot.slot.call.state != CallState.UNSEEN:
                yield KeptCall(slot.slot.call, slot.recorded, kept)

    def _slots(self) -> Iterator[bytes]:
        """The slots of targets' threads."""
        return self._in_map() if self._table is None else self._in_table(self._table)

    def noted(self) -> Iterator[tuple[int, int]]:
        """The pid and tid of each thread that was noted to be in a call."""
        for key, value in self._noted.items():
            noted = NotedThread.from_buffer_copy(value)
            if noted.state == CallState.BEGAN_EARLIER:
                yield noted.tgid, struct.unpack("I", key)[0]

    def _in_table(self, table: bpf.Map) -> Iterator[bytes]:
        """Maps one part after the other: all of it would be resident memory of this process."""
        size, entries = table.value_size, table.max_entries
        names, formats = ["slot", "all"], [_SLOT, f"V{size}"]
        dtype = np.dtype({"names": names, "formats": formats, "offsets": [0, 0], "itemsize": size})
        for first in range(0, entries, mmap.PAGESIZE):  # so many slots fill whole pages
            count = min(mmap.PAGESIZE, entries - first)
            pages = -(-count * size // mmap.PAGESIZE) * mmap.PAGESIZE
            with mmap.mmap(table.fd, pages, prot=mmap.PROT_READ, offset=first * size) as memory:
                whole = np.frombuffer(memory, dtype, count)
                slots = whole["slot"]
                used: npt.NDArray[np.void] = whole["all"][
                    (slots["stack"] != 0) & (slots["is_target"] != 0)
                ]
                del slots, whole
            yield from map(np.void.tobytes, used)

    def _in_map(self) -> Iterator[bytes]:
        for _, value in self._spilled.items():
            if Slot.from_buffer_copy(value).is_target:
                yield value

    def close(self) -> None:
        del self._state
        with contextlib.suppress(BufferError):  # the traceback of an exception may hold a view
            self._state_memory.close()
