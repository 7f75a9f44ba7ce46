# SPDX-License-Identifier: Apache-2.0
"""Assembles stacks from chunks; some stacks wait for unwind tables."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kwatch.aggregate.syscall_stacks import SyscallStackAccount
from kwatch.model.frame import Ending
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.process import CodeState, Process
from kwatch.stacks.assembler import RawStack, StackAssembler
from kwatch.stacks.lookup import alloc_stack
from kwatch.stacks.reader import StackReader
from kwatch.symbols.stack import Stack
from kwatch.wire import events
from kwatch.wire.events import EventType, StackCopy
from kwatch.wire.unwind_rows import STACK_BY_FRAME_POINTER, StackEnd

CHUNK = events.STACK_CHUNK


def chunks(total, end=StackEnd.COMPLETE, stack=1000):
    """Records of a stack whose return addresses are 1, 2, ..."""
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


class Tables:
    """Unwind tables that are still being built. `asked`: the number of lookups."""

    def __init__(self):
        self.is_loading, self.asked = True, 0

    def table_of(self, pid, mapping):
        self.asked += 1

    def await_tables(self, seconds):
        self.is_loading = False

    def batch_done(self, processes):
        pass

    def forget(self, process):
        pass

    def close(self):
        pass


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture
def reader(tables):
    symbolizer = SimpleNamespace(
        stack=lambda *_: Stack(), hurry=lambda: None, close=lambda: None, has_retired=False
    )
    made = StackReader(tables, symbolizer, SyscallStackAccount())
    yield made
    made.close()


def process(mm_id=1):
    return Process(ProcessFacts(7, 1.0, "app", ""), 1, Coverage(7), code=CodeState(mm_id=mm_id))


def copied(reader, stack, of_syscall=False):
    """A stack that came to an unknown mapping, after the copy of its memory."""
    piece = np.zeros(1, events.STACK_PIECE)
    piece["stack"] = stack
    reader._copies.add(piece.tobytes())
    end = int(StackEnd.NO_MAPPING)
    return RawStack(7, stack, end, 1, StackCopy.SENT, of_syscall=of_syscall, addresses=[1, 2])


def test_a_stack_waits_for_a_table_that_is_being_made(reader, tables):
    one = process()
    reader.add(one, copied(reader, 1000))
    reader.batch_done([])
    assert not one.heap_stacks.by_id
    assert alloc_stack(one, 1000).ending is Ending.NO_MAPPING  # so far
    assert reader.has_unfinished
    tables.is_loading = False
    assert reader.is_behind
    reader.batch_done([])
    assert list(one.heap_stacks.by_id) == [1000]
    assert not reader.has_unfinished
    assert not one.heap_stacks.unfinished


def test_a_final_report_waits_for_the_table(reader):
    one = process()
    reader.add(one, copied(reader, 1000))
    reader.finish(1)
    assert list(one.heap_stacks.by_id) == [1000]


def test_others_do_not_wait(reader):
    one = process()
    raw = RawStack(7, 1000, int(StackEnd.COMPLETE), 1, StackCopy.NOT_NEEDED, addresses=[1])
    reader.add(one, raw)
    assert list(one.heap_stacks.by_id) == [1000]


def test_an_exec_ends_the_heaps_but_not_those_of_calls(reader):
    one = process()
    reader.add(one, copied(reader, 1000))
    reader.add(one, copied(reader, 2000, of_syscall=True))
    one.code.mm_id = 2
    reader.finish(1)
    assert (list(one.heap_stacks.by_id), list(one.call_stacks.by_id)) == ([], [2000])


def test_nothing_waits_for_a_process_that_is_gone(reader):
    one = process()
    reader.add(one, copied(reader, 1000))
    reader.forget(one)
    reader.finish(1)
    assert not one.heap_stacks.by_id
