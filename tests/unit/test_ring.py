# SPDX-License-Identifier: Apache-2.0
"""Raw ring contents to events, also where the kernel has put records of its own between."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kwatch import events
from kwatch.kernel.ring import EventReader, MappingRecord, NameRecord, control_records

SAMPLE, LOST = 9, 2


def sample(number, misc):
    event = np.zeros(1, events.SYSCALL)
    event["time_ns"] = number
    payload = event.tobytes()
    size = 8 + 4 + len(payload)
    size += -size % 8
    return struct.pack("IHHI", SAMPLE, misc, size, size - 12) + payload.ljust(size - 12, b"\0")


LOST_RECORD = struct.pack("IHHQQ", LOST, 0, 24, 7, 1)


@given(st.lists(st.sampled_from(["kernel", "user", "lost"]), max_size=40))
def test_events_are_found_between_other_records(kinds):
    records, expected = [], []
    for number, kind in enumerate(kinds):
        if kind == "lost":
            records.append(LOST_RECORD)
        else:
            records.append(sample(number, 1 if kind == "kernel" else 2))
            expected.append(number)
    data = np.frombuffer(b"".join(records), np.uint8)
    found = [int(t) for batch in EventReader(events.SYSCALL).events(data) for t in batch["time_ns"]]
    assert found == expected


def test_control_ring_carries_mappings_and_names():
    path = b"/usr/lib/with space.so\0\0"
    body = struct.pack("IIQQQIIQQII", 41, 42, 0x1000, 0x2000, 0x3000, 8, 1, 99, 0, 5, 0)
    mapping = body + path + struct.pack("Q", 1234)
    mapping = struct.pack("IHH", 10, 0, 8 + len(mapping)) + mapping
    name = struct.pack("II", 41, 42) + b"nginx\0\0\0" + struct.pack("Q", 1235)
    name = struct.pack("IHH", 3, 1 << 13, 8 + len(name)) + name
    found = list(control_records(np.frombuffer(mapping + name, np.uint8)))
    assert found == [
        MappingRecord(1234, 41, 0x1000, 0x3000, 0x3000, (8, 1), 99, "/usr/lib/with space.so"),
        NameRecord(1235, 41, 42, "nginx", True),
    ]
