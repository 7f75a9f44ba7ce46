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

import numpy as np

from kwatch.kernel import bpf
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

    @property
    def capacity(self) -> int:
        """How many events the ring holds."""
        return self._size // self._record.itemsize

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
