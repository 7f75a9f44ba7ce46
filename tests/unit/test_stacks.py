# SPDX-License-Identifier: Apache-2.0
"""Stacks from chunks."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch import events
from kwatch.events import EventType, StackCopy
from kwatch.snapshot import Ending
from kwatch.stacks import StackAssembler
from kwatch.unwind.rows import STACK_BY_FRAME_POINTER, StackEnd

CHUNK = events.STACK_CHUNK


def chunks(total, end=StackEnd.COMPLETE, stack=1000):
    """The records of a stack whose return addresses are 1, 2, ..."""
    for first in range(0, total, CHUNK):
        record = np.zeros(1, events.STACK)
        record["type"], record["tgid"], record["stack"] = EventType.STACK, 7, stack
        record["first"], record["total"], record["exact"] = first, total, total
        record["end"], record["copy"] = end, StackCopy.NOT_NEEDED
        record["frames"] = np.arange(first + 1, first + CHUNK + 1)
        yield record.tobytes()


@pytest.mark.parametrize("total", [1, CHUNK - 1, CHUNK, CHUNK + 1, events.MAX_FRAMES])
def test_a_stack_is_whole_with_its_last_chunk(total):
    assembler = StackAssembler()
    *first, last = [assembler.add(record) for record in chunks(total)]
    assert first == [None] * len(first)
    assert (last.pid, last.stack) == (7, 1000)
    assert last.addresses == list(range(1, total + 1))


def test_what_follows_a_lost_chunk_is_dropped_until_the_stack_is_sent_again():
    assembler = StackAssembler()
    one, two, three = chunks(3 * CHUNK)
    assert [assembler.add(record) for record in (one, three, two)][-1] is None
    whole = [assembler.add(record) for record in (one, two, three)][-1]
    assert whole.addresses == list(range(1, 3 * CHUNK + 1))


def test_stacks_may_come_interleaved():
    assembler = StackAssembler()
    pairs = zip(chunks(2 * CHUNK), chunks(2 * CHUNK, stack=2000), strict=True)
    found = [assembler.add(record) for pair in pairs for record in pair]
    assert [raw.stack for raw in found if raw] == [1000, 2000]


@pytest.mark.parametrize(
    ("end", "ending"),
    [
        (StackEnd.COMPLETE, Ending.COMPLETE),
        (StackEnd.COMPLETE | STACK_BY_FRAME_POINTER, Ending.FRAME_POINTERS),
        (StackEnd.NO_ROW | STACK_BY_FRAME_POINTER, Ending.NO_ROW),
        (StackEnd.TOO_DEEP, Ending.TOO_DEEP),
    ],
)
def test_how_it_ended(end, ending):
    (record,) = chunks(1, end)
    assert StackAssembler().add(record).ending is ending


def test_every_end_has_a_name():
    for end in StackEnd:
        (record,) = chunks(1, end)
        assert StackAssembler().add(record).ending
