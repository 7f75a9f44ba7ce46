# SPDX-License-Identifier: Apache-2.0
"""Rings that BPF programs write without calling a helper: arrays that the reader maps.

bpf/mapped_rings.h is the other side. The array is mapped twice in a row, so that records that wrap
stay contiguous.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os

import numpy as np

from kwatch.kernel import bpf
from kwatch.kernel.joined_mapping import JoinedMapping
from kwatch.wire.events import Batch
from kwatch.wire.maps import RingPosition

_FLAGS = bpf.MAP_MMAPABLE | bpf.MAP_INNER
_WAKE_AT = 16384  # records; a power of two
_LAPS = 0xFFFFFFFF
_ALIGNMENT = 8  # of the size of an event


class CpuMappedRing:
    """One CPU's ring.

    `records` is a power of two, and that many events fill whole pages. The member `lap` of an event
    tells whether it has been written.
    """

    def __init__(
        self, fd: int, memory: JoinedMapping, position: RingPosition, event: np.dtype[np.void]
    ) -> None:
        self.fd = fd
        self._memory = memory
        self._position = position
        self._events = np.frombuffer(memoryview(memory.buffer), event)
        self._records = records = len(self._events) // 2
        position.mask, position.shift = records - 1, records.bit_length() - 1
        position.wake = min(_WAKE_AT, records // 2)

    @classmethod
    def create(
        cls, position: RingPosition, records: int, event: np.dtype[np.void]
    ) -> CpuMappedRing:
        """Raises OSError."""
        shape = bpf.MapShape(bpf.MAP_TYPE_ARRAY, 4, event.itemsize, records, _FLAGS)
        fd = bpf.create_map("mapped_ring", shape)
        try:
            memory = JoinedMapping([fd, fd], records * event.itemsize)
        except OSError:
            os.close(fd)
            raise
        return cls(fd, memory, position, event)

    @property
    def written(self) -> int:
        """How many events have not been released, complete or not."""
        return int(self._position.head - self._position.tail)

    @property
    def capacity(self) -> int:
        """How many events the ring holds."""
        return self._records

    def events(self) -> tuple[Batch, bool]:
        """A view of the complete events that have not been released, and whether it is all.

        It is not all if more events follow one that is still being written: its writer, a thread in
        a uprobe, was preempted.
        """
        tail = self._position.tail
        start = tail % self._records
        events = self._events[start : start + self.written]
        laps = events["lap"]
        lap = tail // self._records + 1
        until_end = self._records - start
        whole = laps[:until_end] == np.uint32(lap & _LAPS)
        if len(laps) > until_end:
            whole = np.concatenate((whole, laps[until_end:] == np.uint32(lap + 1 & _LAPS)))
        return (events, True) if whole.all() else (events[: int(whole.argmin())], False)

    def release(self, count: int) -> None:
        """Frees the first `count` events; views of them must not be used any more."""
        self._position.tail += count

    def close(self) -> None:
        del self._events, self._position
        self._memory.close()
        os.close(self.fd)


class RingPositions:
    """The positions of the rings of all CPUs."""

    def __init__(self, positions: bpf.Map) -> None:
        size = positions.max_entries * positions.value_size
        self._memory = mmap.mmap(positions.fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)

    def __getitem__(self, cpu: int) -> RingPosition:
        return RingPosition.from_buffer(self._memory, cpu * ctypes.sizeof(RingPosition))

    def close(self) -> None:
        # During an exception, its traceback may still hold views of the memory.
        with contextlib.suppress(BufferError):
            self._memory.close()


class Doorbell:
    """A ring buffer with which BPF programs wake the reader; what it holds does not matter."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._reader = mmap.mmap(fd, mmap.PAGESIZE)
        self._writer = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)

    def silence(self) -> None:
        """Removes what it holds; the next ring wakes the reader again."""
        self._reader[:8] = self._writer[:8]

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


def records_of(size: int, event: np.dtype[np.void]) -> int:
    """How many events a ring of `size` bytes has: fewer, or as many as fill whole pages."""
    least = mmap.PAGESIZE // _ALIGNMENT  # fills whole pages
    return 1 << max(size // event.itemsize, least).bit_length() - 1
