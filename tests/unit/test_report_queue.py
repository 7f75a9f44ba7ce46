# SPDX-License-Identifier: Apache-2.0
"""Another thread symbolizes reports; they are written in the order in which they were queued."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from kwatch.model.frame import Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount, BlockCounts, HeapReach
from kwatch.model.snapshot import HeapStats, Lost, ReleaseCount, Snapshot, StackStats, Verdict
from kwatch.procfs.address_space import ReturnAddress
from kwatch.procfs.mappings import Mapping
from kwatch.report.queue import ReportQueue
from kwatch.report.unsymbolized import NoSymbols, UnsymbolizedSnapshot
from kwatch.report.verdict import VerdictInput
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer_thread import SymbolizerThread

CODE = Mapping(0, 1 << 20, 0, "/app", 1, 1, True)


class Names:
    """A slow symbolizer. `named`: the stacks for which all frames were requested."""

    def __init__(self):
        self.named = []
        self.may_go = threading.Event()

    def frames(self, stacks):
        self.may_go.wait(10)
        self.named += stacks
        return [tuple(map(self._frame, stack.addresses)) for stack in stacks]

    def leading(self, stacks, is_last):
        return [(self._frame(stack.addresses[0]),) for stack in stacks]

    def hurry(self):
        self.may_go.set()

    def _frame(self, call):
        return Frame(call.address, f"f{call.address}", 0, "/app", "app.c", call.address)


@pytest.fixture
def names():
    return Names()


@pytest.fixture
def queue(names):
    namer = SymbolizerThread(names)
    made = ReportQueue(namer)
    yield made
    made.close()


def stack(*addresses):
    return Stack(7, tuple(ReturnAddress(address, address - 1, CODE) for address in addresses))


def draft(pid, stacks, listed):
    """One block per stack; a stack's id is its index, and the first stacks are listed."""
    rows = tuple(
        StackStats(
            *(i, 100 - i, 1, 1.0, (), ()),
            reach=BlockCounts(definite=1),
            lost_bytes=100 - i,
            direct=Amount(1, 100 - i),
        )
        for i in range(len(stacks))
    )
    reach = HeapReach(definite=Amount(len(rows), sum(row.bytes for row in rows)), is_settled=True)
    heap = HeapStats(stacks=rows[:listed])
    facts = ProcessFacts(pid, 1.0, "app", "/app", exited=True)
    snapshot = Snapshot("final", "", 1.0, facts, heap, None, None, Lost(), None)
    judged = tuple(zip(rows, stacks, strict=True))
    verdict_input = VerdictInput(judged, reach, len(rows), program="/app")
    return UnsymbolizedSnapshot(snapshot, dict(enumerate(stacks)), verdict_input=verdict_input)


def await_reports(queue):
    """Waits until all reports are written."""
    while queue.waiting:
        assert queue.await_one(10)
        queue.write_ready()


def test_reports_come_out_in_order_once_they_are_named(queue, names):
    written = []
    queue.add([draft(1, [stack(5, 6)], listed=1)], written.append)
    queue.add([draft(2, [stack(5, 8)], listed=1)], written.append)
    queue.write_ready()
    assert not written
    names.may_go.set()
    await_reports(queue)
    first, second = written
    assert [one.process.pid for one in first + second] == [1, 2]
    assert [frame.symbol for frame in second[0].heap.stacks[0].frames] == ["f5", "f8"]
    assert first[0].verdict is Verdict.LEAK


def test_only_what_is_shown_is_named_though_all_is_judged(queue, names):
    names.may_go.set()
    stacks = [stack(address, 9) for address in range(1, 6)]
    written = []
    queue.add([draft(1, stacks, listed=2)], written.append)
    await_reports(queue)
    [[report]] = written
    assert report.reason.startswith("1 block (100 B) from f1 (app.c:1) is lost: ")
    assert report.reason.endswith(", and more from 4 other stacks")
    assert set(map(id, names.named)) == set(map(id, stacks[:2]))


def test_a_failure_of_the_other_thread_is_told(queue, names):
    names.frames = lambda stacks: 1 / 0
    queue.add([draft(1, [stack(5)], listed=1)], print)
    assert queue.await_one(10)
    with pytest.raises(ZeroDivisionError):
        queue.write_ready()


def test_without_names_a_report_is_there_at_once():
    queue = ReportQueue(None)
    one = draft(1, [Stack(frames=(Frame(0, "malloc"),))], listed=1)
    written = []
    queue.add([one], written.append)
    queue.write_ready()
    [[report]] = written
    assert report.heap.stacks[0].frames == (Frame(0, "malloc"),)
    queue.close()


def test_a_leak_says_where_other_blocks_are_freed():
    caller = Frame(0x2000, "request_done", 0x1C, "/app", "/src/http.c", 412)
    freed = Stack(frames=(Frame(0x1000, "free", 0, "/lib/libc.so.6"), caller))
    count = ReleaseCount(alloc=0, release=9, blocks=97, lifetime_ns=97 * 14_000_000)
    one = draft(1, [Stack(frames=(Frame(1, "f1", 0, "/app"),))], listed=1)
    report = replace(one, releases={0: [(count, freed)]}).symbolize(NoSymbols())
    assert report.reason.endswith(
        "; 97 of 97 frees of blocks from here were in request_done+0x1c (http.c:412), after 14.0 ms"
        " on average; this one was not freed"
    )
