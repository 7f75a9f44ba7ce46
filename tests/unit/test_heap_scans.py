# SPDX-License-Identifier: Apache-2.0
"""Heaps are scanned one after another, with pauses, and never in the way of a report."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from harness.records import heap_record, typed

from kwatch.aggregate import HeapAccount
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount, BlockCounts, Reach
from kwatch.model.usage import Usage
from kwatch.probes.coverage import Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process
from kwatch.reach.block_table import JUDGED
from kwatch.reach.scanner import Answer
from kwatch.report.heap_scans import HeapScans, known_blocks
from kwatch.wire.events import HEAP, EventType

A = 0x5500_0000_0010
LOST = np.array([(A, 24, Reach.DEFINITE, False, True, A)], JUDGED)


class FakeScanner:
    """Answers at once; `answers` are those to come, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.has_answer = False
        self.stops = 0

    def ask(self, pid, known, is_first):
        self.asked.append((pid, known.tolist(), is_first))
        self.has_answer = bool(self.answers)

    def answer(self):
        self.has_answer = False
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def stop(self):
        self.stops += 1


def process(pid=7, blocks=1, **facts):
    heap = HeapAccount()
    events = [
        heap_record(
            type=EventType.ALLOC, tid=1, time_ns=1, address=A + 32 * n, size=24, stack=0, tgid=pid
        )
        for n in range(blocks)
    ]
    if events:
        heap.add(*typed(np.array(events, HEAP)))
    made = Process(
        ProcessFacts(pid, 1.0, "app", "/app"), 0, Coverage(pid), Accounts({"heap": heap})
    )
    made.facts = replace(made.facts, **facts)
    made.from_exec = True
    return made


def run(scans):
    until = time.monotonic() + 5
    while not scans.are_done and time.monotonic() < until:
        scans.step()
    assert scans.are_done


MORE = Answer(is_over=False, scans=1, seconds=0.001)
OVER = Answer(table=LOST, is_settled=True, scans=2, seconds=0.002, is_walked=True)


def test_a_heap_is_scanned_until_it_is_certain():
    scanner, one = FakeScanner(MORE, OVER), process()
    scans = HeapScans(scanner)
    scans.begin([one], may_skip=False)
    run(scans)
    assert scanner.asked == [(7, [(A, 24)], True), (7, [(A, 24)], False)]
    reach = one.heap_scan.reach
    assert (reach.definite, reach.scans, reach.seconds) == (Amount(1, 24), 2, 0.003)
    assert reach.is_walked
    assert reach.is_settled
    (stack,) = one.heap.snapshot(time.monotonic_ns(), scan=one.heap_scan.classes).stacks
    assert stack.reach == BlockCounts(definite=1)


def test_processes_take_turns():
    scanner, two = FakeScanner(MORE, OVER, OVER), [process(7), process(8)]
    scans = HeapScans(scanner)
    scans.begin(two, may_skip=False)
    run(scans)
    assert [(pid, is_first) for pid, _, is_first in scanner.asked] == [
        (7, True),
        (7, False),
        (8, True),
    ]
    assert all(one.heap_scan.classes is not None for one in two)


@pytest.mark.parametrize(
    "without",
    [process(blocks=0), process(exited=True), Process(process().facts, 0, Coverage(7))],
    ids=["nothing outstanding", "ended", "no heap"],
)
def test_some_need_no_scan(without):
    scanner = FakeScanner(OVER)
    scans = HeapScans(scanner)
    scans.begin([without], may_skip=False)
    assert scans.are_done
    assert without.heap_scan is None


def test_what_was_there_before_the_attach_needs_one():
    earlier, scanner = process(blocks=0), FakeScanner(OVER)
    earlier.from_exec = False
    scans = HeapScans(scanner)
    scans.begin([earlier], may_skip=False)
    run(scans)
    assert earlier.heap_scan.reach.lost == Amount(1, 24)


def test_a_recent_result_is_kept_if_the_report_is_one_of_many():
    scanner, one = FakeScanner(replace(OVER, seconds=100.0)), process()
    scans = HeapScans(scanner)
    for may_skip, asked in [(True, 1), (True, 1), (False, 2)]:
        scans.begin([one], may_skip=may_skip)
        run(scans)
        assert len(scanner.asked) == asked


def test_scans_for_snapshots_take_a_share_of_the_time(monkeypatch):
    """Of many processes, those whose scan is the oldest take turns."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(clock[0] * 1e9))
    scanner, many = FakeScanner(replace(OVER, seconds=0.4)), [process(pid) for pid in range(1, 11)]
    scans = HeapScans(scanner)

    def asked_after(seconds):
        clock[0] += seconds
        scanner.asked.clear()
        scans.begin(many, may_skip=True)
        while not scans.are_done:
            clock[0] += 0.01
            scans.step()
        return [pid for pid, _, _ in scanner.asked]

    assert asked_after(10) == list(range(1, 11))  # each has one scan
    assert asked_after(10) == []
    assert asked_after(25) == [1, 2]
    assert asked_after(10) == [3, 4]
    assert asked_after(10) == [5, 6, 7]


def test_a_large_process_is_scanned_only_at_the_end():
    scanner, large = FakeScanner(OVER), process()
    large.usage.add(Usage(anonymous=4 << 30, shared=0, descriptors=3))
    scans = HeapScans(scanner)
    scans.begin([large], may_skip=True)
    assert scans.are_done
    scans.begin([large], may_skip=False)
    run(scans)
    assert large.heap_scan.reach.definite == Amount(1, 24)


def test_a_failure_is_told():
    one = process()
    scans = HeapScans(FakeScanner(Answer("its memory cannot be read: Permission denied")))
    scans.begin([one], may_skip=False)
    run(scans)
    assert one.heap_scan.reach.error == "its memory cannot be read: Permission denied"
    assert one.heap_scan.classes is None


def test_dropped_scans_say_why_and_keep_what_was_lost_before():
    scanner, known, new = FakeScanner(OVER), process(7), process(8)
    scans = HeapScans(scanner)
    scans.begin([known], may_skip=False)
    run(scans)
    scanner.answers = []
    scans.begin([known, new], may_skip=False)
    scans.step()
    scans.drop("it took too long")
    assert scans.are_done
    assert scanner.stops == 1
    assert known.heap_scan.reach.definite == Amount(1, 24)
    assert known.heap_scan.reach.error == "it took too long"
    assert known.heap_scan.classes is not None
    assert new.heap_scan.reach.error == "it took too long"


def test_a_process_that_ends_meanwhile_has_no_result():
    one = process()
    scans = HeapScans(FakeScanner(OVER))
    scans.begin([one], may_skip=False)
    one.facts = replace(one.facts, exited=True)
    run(scans)
    assert one.heap_scan is None


def test_the_scanner_gets_the_blocks_by_address():
    assert known_blocks(process(blocks=3)).tolist() == [(A, 24), (A + 32, 24), (A + 64, 24)]
