# SPDX-License-Identifier: Apache-2.0
"""Records become calls in order of time, also if one CPU's arrive a little later."""

from __future__ import annotations

import numpy as np
from harness.records import call_record

from kwatch.commands.trace.calls import CallStream
from kwatch.model.traced_call import Moment
from kwatch.programs.sources import HEAP, SYSCALLS
from kwatch.rings.call_areas import copied
from kwatch.wire.events import CALL, EventType


class NoAreas:
    """Records without bytes."""

    def copy(self, events):
        return copied(events, np.empty(0, np.uint8), 1)


def stream():
    return CallStream(NoAreas)


def batch(*records):
    return np.array([call_record(**{"type": EventType.SYSCALL} | each) for each in records], CALL)


def taken(given, **limit):
    return list(given.calls(given.take(**limit)))


def seen(given, **limit):
    return [call.arguments[0] for call in taken(given, **limit)]


def numbered(time_ns, number, **fields):
    return {"time_ns": time_ns, "arguments": (number, 0, 0, 0, 0, 0), "tid": number, **fields}


def test_what_arrives_a_little_later_is_shown_in_its_place():
    given = stream()
    given.on_batch(SYSCALLS, batch(numbered(100, 1), numbered(300, 3)))
    assert seen(given, before_ns=200) == [1]
    given.on_batch(SYSCALLS, batch(numbered(250, 2), numbered(400, 4)))
    assert seen(given, before_ns=350) == [2, 3]
    assert seen(given) == [4]
    assert seen(given) == []


def test_other_events_are_left_alone():
    given = stream()
    given.on_batch(HEAP, np.zeros(3, [("time_ns", "u8")]))
    assert seen(given) == []


def test_a_call_is_told_from_what_else_a_thread_does():
    given = stream()
    exit_group = {"nr": 231, "duration_ns": 0}
    records = [
        numbered(10, 1, comm=b"cat", duration_ns=4),
        numbered(20, 2, **exit_group),
        numbered(30, 3, type=EventType.THREAD_END, result=256),
        numbered(40, 4, type=EventType.SYSCALL_UNFINISHED, duration_ns=7),
    ]
    given.on_batch(SYSCALLS, batch(*records))
    found = taken(given)
    assert [call.moment for call in found] == [
        Moment.RETURNED,
        Moment.RETURNED,
        Moment.ENDED,
        Moment.UNFINISHED,
    ]
    assert [call.duration_ns for call in found] == [4, None, 0, 7]
    assert (found[0].comm, found[0].name, found[2].result) == (b"cat", "read", 256)
    assert found[1].time_ns - found[0].time_ns == 20 - (10 - 4)
