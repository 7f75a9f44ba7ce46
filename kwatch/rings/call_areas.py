# SPDX-License-Identifier: Apache-2.0
"""The areas of all CPUs: what recorded calls read of their programs' memory.

bpf/capture_area.h is the other side. Records of kwatch.wire.events.CALL refer to the areas; their
bytes are released with them.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.errors import KwatchError
from kwatch.kernel import bpf
from kwatch.kernel.cpus import online_cpus
from kwatch.kernel.privileges import cure_of
from kwatch.rings.mapped_ring import RingPositions
from kwatch.wire import batches
from kwatch.wire.events import CALL, NO_PIECE, PLACE_BITS, Batch, RecordedFlag
from kwatch.wire.maps import RingPosition

_POSITION = np.uint64((1 << PLACE_BITS) - 1)
_FLAGS = bpf.MAP_MMAPABLE | bpf.MAP_INNER
_OWN = (1 << 64 - PLACE_BITS) - 1  # in place of a CPU: bytes that no program has written
_NOTHING: npt.NDArray[np.uint8] = np.empty(0, np.uint8)


class CallBytes(NamedTuple):
    """Copies of records and of their bytes: those of record i begin at `starts[i]` in `data`."""

    events: Batch
    starts: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Area:
    """One CPU's. `size`: without the room behind it, which the last capture of a lap may use."""

    fd: int
    memory: mmap.mmap
    bytes: npt.NDArray[np.uint8]
    position: RingPosition
    size: int

    def close(self) -> None:
        del self.bytes, self.position
        with contextlib.suppress(BufferError):  # the traceback of an exception may hold a view
            self.memory.close()
        os.close(self.fd)


class OwnBytes:
    """The bytes of records that kwatch makes itself."""

    def __init__(self) -> None:
        self._bytes = b""

    def hold(self, data: bytes) -> int:
        """Keeps bytes for a record, and returns their place.

        Records with such places are a batch of their own, in this order.
        """
        place = _OWN << PLACE_BITS | len(self._bytes)
        self._bytes += data
        return place

    def copy(self, events: Batch) -> CallBytes:
        """Such records with their bytes."""
        return copied(events, np.frombuffer(self._bytes, np.uint8), len(self._bytes) + 1)


class CallAreas:
    def __init__(self, output: bpf.Map, template: bpf.Map, positions: bpf.Map) -> None:
        """`template`: a map like the areas. Raises KwatchError."""
        self._areas: dict[int, _Area] = {}
        self.own = OwnBytes()
        self._positions = RingPositions(positions)
        size = 1 << template.value_size.bit_length() - 1
        try:
            for cpu in online_cpus():
                self._areas[cpu] = _area(self._positions[cpu], template.value_size, size)
                output.set(struct.pack("I", cpu), struct.pack("I", self._areas[cpu].fd))
        except OSError as error:
            self.close()
            raise KwatchError(
                f"an area of {size} bytes for the contents of calls cannot be created: "
                f"{error.strerror}",
                cure_of(error),
            ) from error

    def copy(self, events: Batch) -> CallBytes:
        """Copies records that one CPU has written, in their order, with their bytes."""
        found = _with_bytes(events)
        if not len(found):
            return CallBytes(batches.copied(events), np.zeros(len(events), np.int64), _NOTHING)
        cpu = int(events["place"][found[0]] >> np.uint64(PLACE_BITS))
        if cpu == _OWN:
            return self.own.copy(events)
        area = self._areas[cpu]
        return copied(events, area.bytes, area.size)

    def release(self, events: Batch) -> None:
        """Releases the bytes of records that one CPU has written."""
        found = _with_bytes(events)
        if not len(found):
            return
        last = events[found[-1:]]
        place = int(last["place"][0])
        end = (place & int(_POSITION)) + int(lengths(last["pieces"])[0])
        self._areas[place >> PLACE_BITS].position.tail = end

    def close(self) -> None:
        for area in self._areas.values():
            area.close()
        self._areas.clear()
        self._positions.close()


def copied(events: Batch, area: npt.NDArray[np.uint8], size: int) -> CallBytes:
    """Copies records with their bytes. Behind the `size` of an area is room for one capture."""
    events = batches.copied(events)
    starts = np.zeros(len(events), np.int64)
    found = _with_bytes(events)
    places = (events["place"][found] & _POSITION).astype(np.int64)
    ends = places + lengths(events["pieces"][found])
    parts, length = [_NOTHING], 0
    for first, last in _laps(places // size) if len(found) else ():
        begin, end = int(places[first]), int(ends[last - 1])
        parts.append(area[begin % size : begin % size + end - begin])
        starts[found[first:last]] = places[first:last] - begin + length
        length += end - begin
    return CallBytes(events, starts, np.concatenate(parts))


def _with_bytes(events: Batch) -> npt.NDArray[np.int64]:
    """The indexes of the records that have bytes."""
    return np.flatnonzero(events["flags"] & np.uint16(RecordedFlag.BYTES))


def merged(parts: list[CallBytes]) -> CallBytes:
    """Those of all CPUs together, in no order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return CallBytes(np.empty(0, CALL), np.empty(0, np.int64), _NOTHING)
    before = np.cumsum([0, *(len(part.data) for part in parts[:-1])])
    starts = [part.starts + shift for part, shift in zip(parts, before, strict=True)]
    return CallBytes(
        batches.concatenated([part.events for part in parts]),
        np.concatenate(starts),
        np.concatenate([part.data for part in parts]),
    )


def selected(records: CallBytes, mask: npt.NDArray[np.bool_]) -> CallBytes:
    """Some of the records, with their bytes only."""
    events, starts = batches.chosen(records.events, mask), records.starts[mask]
    sizes = lengths(events["pieces"])
    begins = np.cumsum(sizes) - sizes
    places = np.repeat(starts - begins, sizes) + np.arange(int(sizes.sum()))
    return CallBytes(events, begins, records.data[places])


def lengths(pieces: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """The bytes of each record, from its pieces."""
    total: npt.NDArray[np.int64] = np.where(pieces == NO_PIECE, 0, pieces).sum(
        axis=1, dtype=np.int64
    )
    return total


def _laps(laps: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The ranges of records of one lap: bytes of different laps do not lie in a row."""
    turns = np.flatnonzero(np.diff(laps)) + 1
    bounds = [0, *turns.tolist(), len(laps)]
    return list(itertools.pairwise(bounds))


def _area(position: RingPosition, value_size: int, size: int) -> _Area:
    shape = bpf.MapShape(bpf.MAP_TYPE_ARRAY, 4, value_size, 1, _FLAGS)
    fd = bpf.create_map("capture_area", shape)
    try:
        whole = -(-value_size // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(fd, whole, prot=mmap.PROT_READ)
    except OSError:
        os.close(fd)
        raise
    position.mask = size - 1  # without one, programs do not use the area
    return _Area(fd, memory, np.frombuffer(memory, np.uint8), position, size)
