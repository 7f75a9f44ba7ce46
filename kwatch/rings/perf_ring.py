# SPDX-License-Identifier: Apache-2.0
"""Perf rings, one for each CPU: BPF programs and the kernel itself write to them.

They carry control records and stacks.

See perf_event_open(2), "MMAP layout", for the kernel side. Lost records are counted by the BPF
program that could not write them, or by the kernel (PERF_RECORD_LOST) for its own records.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.errors import KwatchError
from kwatch.kernel import perf
from kwatch.kernel.bpf import Map
from kwatch.kernel.cpus import online_cpus
from kwatch.kernel.privileges import cure_of, refused

_DATA_HEAD, _DATA_TAIL = 1024 // 8, 1032 // 8  # in struct perf_event_mmap_page, as u64
_RECORD_LOST, _RECORD_COMM, _RECORD_SAMPLE, _RECORD_MMAP2 = 2, 3, 9, 10
_MISC_COMM_EXEC = 1 << 13
_SIZE_AT = 6  # in struct perf_event_header
_PAGE = mmap.PAGESIZE

Bytes = npt.NDArray[np.uint8]


class CpuPerfRing:
    """One CPU's ring. `size` is in bytes, a power of two and a multiple of the page size."""

    def __init__(self, cpu: int, size: int, wakeup: int, mappings: bool) -> None:
        try:
            self.fd = perf.open_output(cpu, wakeup, mappings)
        except OSError as error:
            raise refused(f"a perf ring for CPU {cpu} cannot be opened", error) from error
        try:
            self._map = mmap.mmap(self.fd, _PAGE + size)
        except OSError as error:
            os.close(self.fd)
            why = f"a ring of {size} bytes for CPU {cpu} cannot be mapped: {error.strerror}"
            is_locked = error.errno in (errno.EPERM, errno.EAGAIN)  # see perf_mmap()
            cure = "raise /proc/sys/kernel/perf_event_mlock_kb" if is_locked else cure_of(error)
            raise KwatchError(why, cure) from error
        self._size = size
        self.is_empty = True
        self._control = np.frombuffer(self._map, np.uint64, _PAGE // 8)
        self._data = np.frombuffer(self._map, np.uint8, size, _PAGE)
        perf.enable(self.fd)

    @property
    def fill(self) -> float:
        """The share of the ring that is in use, between 0 and 1."""
        return int(self._control[_DATA_HEAD] - self._control[_DATA_TAIL]) / self._size

    def drain(self, most: int | None = None) -> Bytes | None:
        """Removes and returns what was written since the last call.

        With `most`, whole records of about that many bytes; `is_empty` says whether more are left.
        """
        head, tail = int(self._control[_DATA_HEAD]), int(self._control[_DATA_TAIL])
        self.is_empty = True
        if head == tail:
            return None
        if most is not None and head - tail > most:
            self.is_empty = False
            head = self._end_of_records(tail, tail + most)
        start, length = tail % self._size, head - tail
        if start + length <= self._size:
            data = self._data[start : start + length].copy()
        else:
            until_end = self._size - start
            data = np.concatenate((self._data[start:], self._data[: length - until_end]))
        self._control[_DATA_TAIL] = head
        return data

    def _end_of_records(self, at: int, least: int) -> int:
        """The end of the first record, from `at` on, that reaches `least`."""
        sizes = self._data.view(np.uint16)  # records are aligned to 8 bytes
        while at < least:
            at += int(sizes[at % self._size // 2 + _SIZE_AT // 2])
        return at

    def close(self) -> None:
        del self._control, self._data
        self._map.close()
        os.close(self.fd)


class PerfRings:
    """The rings of all CPUs behind one BPF_PERF_OUTPUT map.

    `wakeup` and `mappings`: see kwatch.kernel.perf.open_output.
    """

    def __init__(self, output: Map, size: int, wakeup: int = 1, mappings: bool = False) -> None:
        self._cpus: list[CpuPerfRing] = []
        with ExitStack() as stack:
            stack.callback(self.close)
            for cpu in online_cpus():
                self._cpus.append(CpuPerfRing(cpu, size, wakeup, mappings))
                output.set(struct.pack("I", cpu), struct.pack("I", self._cpus[-1].fd))
            stack.pop_all()

    @property
    def descriptors(self) -> list[int]:
        """The descriptors to poll."""
        return [ring.fd for ring in self._cpus]

    def drain(self, most: int | None = None) -> list[Bytes]:
        """The raw records of each CPU that has any; with `most`, about so many bytes of each."""
        return [data for ring in self._cpus if (data := ring.drain(most)) is not None]

    @property
    def fill(self) -> float:
        """The share of the fullest ring that is in use, between 0 and 1."""
        return max(ring.fill for ring in self._cpus)

    @property
    def is_empty(self) -> bool:
        """Whether the last `drain` took everything."""
        return all(ring.is_empty for ring in self._cpus)

    def close(self) -> None:
        for ring in self._cpus:
            ring.close()


@dataclass(frozen=True, slots=True)
class MappingRecord:
    """An executable mapping that a process has just made (PERF_RECORD_MMAP2)."""

    time_ns: int
    pid: int
    start: int
    end: int
    offset: int
    device: tuple[int, int]
    inode: int
    path: str


@dataclass(frozen=True, slots=True)
class LostRecord:
    """How many records were lost at this place (PERF_RECORD_LOST)."""

    count: int


@dataclass(frozen=True, slots=True)
class NameRecord:
    """A thread has a new name (PERF_RECORD_COMM), set by an exec or by the thread itself.

    At an exec, the record precedes the mappings of the new image.
    """

    time_ns: int
    pid: int
    tid: int
    comm: str
    is_exec: bool


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """A record that a BPF program wrote; the first byte of `data` is its type."""

    time_ns: int
    data: bytes


_HEADER = struct.Struct("IHH")
_SAMPLE = struct.Struct("IHHQI")  # header, time, length of the data
_LOST = struct.Struct("IHHQQ")
_COMM = struct.Struct("IHHII")
_MMAP2 = struct.Struct("IHHIIQQQIIQQII")


def _lost_record(data: bytes) -> LostRecord:
    return LostRecord(_LOST.unpack_from(data)[-1])


def _mapping_record(data: bytes) -> MappingRecord:
    fields = _MMAP2.unpack_from(data)
    _, _, _, pid, _, start, length, offset, major, minor, inode = fields[:11]
    name = data[_MMAP2.size : -8].split(b"\0", 1)[0]
    (time_ns,) = struct.unpack("Q", data[-8:])
    path = os.fsdecode(name)
    return MappingRecord(time_ns, pid, start, start + length, offset, (major, minor), inode, path)


def _name_record(data: bytes) -> NameRecord:
    _, misc, _, pid, tid = _COMM.unpack_from(data)
    comm = os.fsdecode(data[_COMM.size : -8].split(b"\0", 1)[0])
    (time_ns,) = struct.unpack("Q", data[-8:])
    return NameRecord(time_ns, pid, tid, comm, bool(misc & _MISC_COMM_EXEC))


def _sample_record(data: bytes) -> ControlRecord:
    _, _, _, time_ns, length = _SAMPLE.unpack_from(data)
    return ControlRecord(time_ns, data[_SAMPLE.size : _SAMPLE.size + length])


Control = MappingRecord | NameRecord | ControlRecord
Record = Control | LostRecord

_PARSERS: dict[int, Callable[[bytes], Record]] = {
    _RECORD_LOST: _lost_record,
    _RECORD_SAMPLE: _sample_record,
    _RECORD_COMM: _name_record,
    _RECORD_MMAP2: _mapping_record,
}


def control_records(data: Bytes) -> Iterator[Record]:
    """Parses the records of one CPU's control ring; they vary in kind and length."""
    raw, at = data.tobytes(), 0
    while at + _HEADER.size <= len(raw):
        kind, _, size = _HEADER.unpack_from(raw, at)
        parse = _PARSERS.get(kind)
        if parse is not None:
            yield parse(raw[at : at + size])
        at += max(size, _HEADER.size)
