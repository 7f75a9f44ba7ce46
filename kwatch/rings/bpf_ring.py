# SPDX-License-Identifier: Apache-2.0
"""BPF ring buffers: one per CPU, filled by BPF programs, read in place as numpy arrays.

The layout is the kernel's (kernel/bpf/ringbuf.c): a page where the reader writes its position, a
page with the writers' position, and the data, mapped twice in a row so that records that wrap stay
contiguous. A BPF program counts the records that it could not write.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from dataclasses import dataclass

import numpy as np

from kwatch.errors import KwatchError
from kwatch.kernel import bpf
from kwatch.kernel.cpus import online_cpus
from kwatch.kernel.privileges import cure_of
from kwatch.wire.events import Batch

_PAGE = mmap.PAGESIZE
_HEADER = 8  # of a record: its length, whose highest bit is set while it is being written


class CpuBpfRing:
    """One CPU's ring. `size` is in bytes, a power of two and a multiple of the page size."""

    def __init__(
        self, fd: int, reader: mmap.mmap, writer: mmap.mmap, event: np.dtype[np.void]
    ) -> None:
        """`reader`: the reader's page; `writer`: the writers' page and twice the data."""
        self.fd = fd
        self._size = (len(writer) - _PAGE) // 2
        self._length = event.itemsize
        padding = f"V{-event.itemsize % _HEADER}"
        self._record = np.dtype(
            [("length", "u4"), ("page", "u4"), ("event", event), ("padding", padding)]
        )
        self._maps = reader, writer
        self._consumed = np.frombuffer(reader, np.uint64, 1)
        self._produced = np.frombuffer(writer, np.uint64, 1)
        self._data = np.frombuffer(writer, np.uint8, 2 * self._size, _PAGE)

    @classmethod
    def create(cls, size: int, event: np.dtype[np.void]) -> CpuBpfRing:
        """Raises OSError."""
        fd = bpf.create_map("bpf_ring", bpf.MapShape(bpf.MAP_TYPE_RINGBUF, 0, 0, size))
        try:
            reader = mmap.mmap(fd, _PAGE)
            writer = mmap.mmap(fd, _PAGE + 2 * size, prot=mmap.PROT_READ, offset=_PAGE)
        except OSError:
            os.close(fd)
            raise
        return cls(fd, reader, writer, event)

    @property
    def written(self) -> int:
        """How many events have not been released, complete or not."""
        return int(self._produced[0] - self._consumed[0]) // self._record.itemsize

    def events(self) -> tuple[Batch, bool]:
        """A view of the complete events that have not been released, and whether it is all.

        It is not all if more events follow one that is still being written: its writer, a thread in
        a uprobe, was preempted.
        """
        start = int(self._consumed[0]) % self._size
        length = self.written * self._record.itemsize
        records = self._data[start : start + length].view(self._record)
        lengths = records["length"]
        if (lengths == self._length).all():
            return records["event"], True
        return records["event"][: int((lengths != self._length).argmax())], False

    def release(self, count: int) -> None:
        """Frees the first `count` events; views of them must not be used any more."""
        self._consumed[0] += np.uint64(count * self._record.itemsize)

    def close(self) -> None:
        del self._consumed, self._produced, self._data
        for memory in self._maps:
            # During an exception, its traceback may still hold views of the memory.
            with contextlib.suppress(BufferError):
                memory.close()
        os.close(self.fd)


@dataclass(slots=True)
class _Lane:
    """A CPU's ring, its events as of the last look, and how many of them are being read.

    `old`: how many are known to be older than the cut. All before `read_until_ns` have been read.
    """

    ring: CpuBpfRing
    events: Batch | None = None
    old: int = 0
    reading: int = 0
    read_until_ns: int = 0


class BpfRings:
    """The rings of all CPUs behind one array of maps."""

    def __init__(self, output: bpf.Map, size: int, event: np.dtype[np.void]) -> None:
        self._lanes: list[_Lane] = []
        try:
            for cpu in online_cpus():
                self._lanes.append(_Lane(CpuBpfRing.create(size, event)))
                output.set(struct.pack("I", cpu), struct.pack("I", self._lanes[-1].ring.fd))
        except OSError as error:
            self.close()
            raise KwatchError(
                f"a ring of {size} bytes cannot be created: {error.strerror}", cure_of(error)
            ) from error

    @property
    def descriptors(self) -> list[int]:
        """For edge-triggered polling: a BPF program decides when they become readable."""
        return [lane.ring.fd for lane in self._lanes]

    @property
    def left(self) -> int:
        """How many events from before the last `mark` have not been released."""
        return sum(lane.old for lane in self._lanes)

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
            lane.events = None
            lane.ring.release(lane.reading)
            lane.old = max(lane.old - lane.reading, 0)
            lane.reading = 0

    def close(self) -> None:
        for lane in self._lanes:
            lane.events = None
            lane.ring.close()
