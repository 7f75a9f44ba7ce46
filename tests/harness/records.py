# SPDX-License-Identifier: Apache-2.0
"""Builds records of the wire format from named fields; missing fields are zero."""

from __future__ import annotations

import numpy as np

from kwatch.rings.perf_ring import ControlRecord
from kwatch.wire import events
from kwatch.wire.events import (
    CALL,
    HEAP,
    NO_PIECE,
    PIECES,
    STACKED_SYSCALL,
    SYSCALL,
    RecordedFlag,
    types_of,
)


def heap_record(**fields):
    return tuple(fields.get(name, 0) for name in HEAP.names)


def syscall_record(**fields):
    return tuple(fields.get(name, 0) for name in SYSCALL.names)


def stacked_syscall_record(**fields):
    return tuple(fields.get(name, 0) for name in STACKED_SYSCALL.names)


def heap_batch(records):
    """A batch of heap events, from mappings of their fields."""
    return np.array([heap_record(**fields) for fields in records], HEAP)


def typed(batch):
    """The arguments of the heap accounts: a batch and its types."""
    return batch, types_of(batch)


def control_record(kind, time_ns, **fields):
    """A record of the control ring, such as EventType.EXEC."""
    record = np.zeros((), getattr(events, kind.name))
    for name, value in {"type": kind, "time_ns": time_ns, **fields}.items():
        record[name] = value
    return ControlRecord(time_ns, record.tobytes())


def call_record(pieces=(), **fields):
    """A record of a call. `pieces`: lengths by number; the others are not captured."""
    lengths = [NO_PIECE] * PIECES
    for number, length in dict(pieces).items():
        lengths[number] = length
    known = {"arguments": (0,) * 6, "entry_tid": fields.get("tid", 0), **fields, "pieces": lengths}
    if pieces:
        known["flags"] = known.get("flags", 0) | RecordedFlag.BYTES
    return tuple(known.get(name, 0) for name in CALL.names)
