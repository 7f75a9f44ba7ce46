# SPDX-License-Identifier: Apache-2.0
"""Records of the wire format by the names of their fields; what is not given is zero."""

from __future__ import annotations

import numpy as np

from kwatch.rings.perf_ring import ControlRecord
from kwatch.wire import events
from kwatch.wire.events import HEAP, STACKED_SYSCALL, SYSCALL, types_of


def heap_record(**fields):
    return tuple(fields.get(name, 0) for name in HEAP.names)


def syscall_record(**fields):
    return tuple(fields.get(name, 0) for name in SYSCALL.names)


def stacked_syscall_record(**fields):
    return tuple(fields.get(name, 0) for name in STACKED_SYSCALL.names)


def heap_batch(records):
    """Heap events as they come in a batch, from mappings of their fields."""
    return np.array([heap_record(**fields) for fields in records], HEAP)


def typed(batch):
    """What the accounts of the heap take."""
    return batch, types_of(batch)


def control_record(kind, time_ns, **fields):
    """A record of the control ring, such as EventType.EXEC."""
    record = np.zeros((), getattr(events, kind.name))
    for name, value in {"type": kind, "time_ns": time_ns, **fields}.items():
        record[name] = value
    return ControlRecord(time_ns, record.tobytes())
