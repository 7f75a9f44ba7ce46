# SPDX-License-Identifier: Apache-2.0
"""The bytes of records are found in a CPU's area, also where it begins anew."""

from __future__ import annotations

import numpy as np
from harness.records import call_record

from kwatch.rings.call_areas import copied, merged, selected
from kwatch.wire.events import CALL, PLACE_BITS

SIZE, ROOM = 64, 32


def area_with(contents):
    """An area as BPF programs fill it: (place, bytes) each."""
    area = np.zeros(SIZE + ROOM, np.uint8)
    for place, content in contents:
        area[place % SIZE : place % SIZE + len(content)] = list(content)
    return area


def events_at(contents, cpu=0):
    places = [(place | cpu << PLACE_BITS, content) for place, content in contents]
    return np.array(
        [
            call_record({2: len(content)} if content else {}, place=place)
            for place, content in places
        ],
        CALL,
    )


def bytes_of(copy):
    ends = copy.starts + np.where(
        copy.events["pieces"][:, 2] == 0xFFFF, 0, copy.events["pieces"][:, 2]
    )
    return [copy.data[start:end].tobytes() for start, end in zip(copy.starts, ends, strict=True)]


def test_a_batch_that_goes_round_the_area():
    """The third one begins before the end, and goes on in the room behind it."""
    contents = [(200, b"first"), (205, b"second one"), (0, b""), (215, b"x" * 45), (260, b"end")]
    copy = copied(events_at(contents, cpu=3), area_with(contents), SIZE)
    assert bytes_of(copy) == [content for _, content in contents]


def test_a_gap_that_another_capture_has_left():
    contents = [(3, b"one"), (20, b"two")]
    assert bytes_of(copied(events_at(contents), area_with(contents), SIZE)) == [b"one", b"two"]


def test_the_areas_of_several_cpus_together():
    parts = []
    for cpu, contents in enumerate([[(1, b"a")], [(0, b"")], [(7, b"bc"), (9, b"d")]]):
        parts.append(copied(events_at(contents, cpu), area_with(contents), SIZE))
    assert bytes_of(merged(parts)) == [b"a", b"", b"bc", b"d"]
    assert not len(merged([]).events)


def test_some_of_the_records_have_their_bytes_and_no_others():
    contents = [(3, b"one"), (0, b""), (6, b"three"), (11, b"four")]
    copy = selected(
        copied(events_at(contents), area_with(contents), SIZE), np.array([True, True, False, True])
    )
    assert bytes_of(copy) == [b"one", b"", b"four"]
    assert copy.data.tobytes() == b"onefour"
