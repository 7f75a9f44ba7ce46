# SPDX-License-Identifier: Apache-2.0
"""Where blocks are freed: counted from events, in windows, and told apart by place."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from harness.records import heap_batch, typed

from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.releases import MAX_PAIRS, ReleaseTotals
from kwatch.model.frame import Frame
from kwatch.model.snapshot import Release, ReleaseCount
from kwatch.ownership.releases import candidates, expected_release
from kwatch.session import release_windows
from kwatch.session.release_windows import ReleaseWindows
from kwatch.sinks.release_text import release_sentence
from kwatch.wire.events import EventType

ALLOC, OTHER, FREE, DROP = 1000, 1001, 2000, 2001


def malloc(address, stack, at, size=8):
    fields = {"address": address, "stack": stack, "time_ns": at, "size": size}
    return {"type": EventType.ALLOC, **fields}


def free(address, stack, at, kind=EventType.FREE):
    return {"type": kind, "address": address, "stack": stack, "time_ns": at}


def account(*batches, learns=True):
    heap = HeapAccount()
    heap.learns_releases = learns
    for batch in batches:
        heap.add(*typed(heap_batch(batch)))
    return heap


def counts(heap):
    return {tuple(row) for row in heap.releases.counts()}


def test_blocks_that_end_in_their_own_batch_and_in_a_later_one():
    first = [malloc(16, ALLOC, 10), free(16, FREE, 15), malloc(16, ALLOC, 20)]
    first += [malloc(32, OTHER, 30), malloc(48, ALLOC, 40)]
    second = [free(32, DROP, 100), free(16, FREE, 120), free(64, FREE, 130)]
    assert counts(account(first, second)) == {(ALLOC, FREE, 2, 105), (OTHER, DROP, 1, 70)}


def test_sums_of_blocks_that_ended_in_the_kernel():
    def sums(alloc, release, blocks, ns):
        fields = {"stack": alloc, "address": release, "tid": blocks, "size": ns}
        return {"type": EventType.RELEASES, **fields}

    batch = [sums(ALLOC, FREE, 3, 30), sums(ALLOC, FREE, 2, 4), sums(OTHER, FREE, 7, 1)]
    assert counts(account(batch)) == {(ALLOC, FREE, 5, 34), (OTHER, FREE, 7, 1)}
    assert counts(account(batch, learns=False)) == set()
    assert account(batch).frees == 0  # other records count the blocks


def test_what_has_no_stack_does_not_count():
    """A free outside a window, a realloc, and a block from before the attach."""
    events = [malloc(16, ALLOC, 10), free(16, 0, 15), malloc(16, ALLOC, 20)]
    events += [free(16, 0, 25, EventType.REALLOC_RELEASE), free(80, FREE, 30)]
    assert counts(account(events)) == set()
    assert counts(account([malloc(16, ALLOC, 10), free(16, FREE, 15)], learns=False)) == set()


def test_an_exec_forgets_and_goes_on_learning():
    heap = account([malloc(16, ALLOC, 10), free(16, FREE, 15)])
    heap.exec()
    assert counts(heap) == set()
    assert heap.learns_releases


def test_the_pairs_are_limited():
    import numpy as np

    totals = ReleaseTotals()
    stacks = np.arange(1000, 1000 + MAX_PAIRS + 5, dtype=np.uint64)
    totals.add(stacks, stacks, stacks)
    assert len(totals.counts()) == MAX_PAIRS


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(release_windows, "time", SimpleNamespace(monotonic=lambda: self.now))


def process(pid, heap, slot):
    return SimpleNamespace(pid=pid, slot=slot, heap=heap, shares=0)


class Windows:
    def __init__(self, monkeypatch, *processes):
        self.on = Counter()
        self.clock = Clock(monkeypatch)
        self.processes = list(processes)
        switches = SimpleNamespace(set=self.set)
        self.behind_s = 0.1
        self.windows = ReleaseWindows(switches, self.processes, self.delivered_ns)

    def delivered_ns(self):
        return int((self.clock.now - self.behind_s) * 1e9)

    def set(self, key, value):
        self.on[int.from_bytes(key, "little")] = value[0]

    def open_s(self, seconds, index=7):
        """For how long the switch is on."""
        open_s = 0.0
        for _ in range(round(seconds * 10)):
            self.windows.update()
            open_s += 0.1 * self.on[index]
            self.clock.now += 0.101
        return round(open_s, 1)


def test_windows_open_while_releases_are_needed(monkeypatch):
    leaks = account([malloc(16, ALLOC, 10)])
    windows = Windows(monkeypatch, process(7, leaks, 1))
    assert windows.open_s(9) == pytest.approx(2, abs=0.2)
    assert not leaks.learns_releases
    windows.behind_s = 100
    assert windows.open_s(10) == pytest.approx(1, abs=0.2)
    assert leaks.learns_releases  # events of the window have not arrived
    windows.behind_s = 0.1
    known = [event for i in range(64) for event in (malloc(64, ALLOC, i), free(64, FREE, i))]
    leaks.add(*typed(heap_batch(known)))
    assert windows.open_s(50) == 0  # enough is known
    leaks.add(*typed(heap_batch([malloc(32, OTHER, 20)])))
    assert windows.open_s(400) == pytest.approx(30, abs=3)  # and then it is given up


def test_processes_that_share_a_switch(monkeypatch):
    one, two = (process(pid, account(), slot) for slot, pid in enumerate((7, 7 + 1024)))
    windows = Windows(monkeypatch, one, two)
    windows.open_s(1)
    windows.processes.remove(one)
    assert windows.open_s(0.5) > 0.3
    windows.processes.clear()
    assert windows.open_s(0.5) == 0


MAIN = Frame(9, "main", 5, "/bin/app", "app.c", 90)
DONE = Frame(1, "request_done", 0x1C, "/bin/app", "http.c", 412)
ABORT = Frame(2, "abort_request", 8, "/bin/app", "http.c", 500)
LIBRARY = Frame(3, "fclose", 4, "/usr/lib/libc.so.6")


def test_stacks_with_one_place_count_together():
    found = [
        (ReleaseCount(ALLOC, 1, 4, 40), (ABORT, MAIN)),
        (ReleaseCount(ALLOC, 2, 3, 3_000_000_000), (LIBRARY, DONE, MAIN)),
        (ReleaseCount(ALLOC, 3, 2, 2_000_000_000), (DONE, ABORT, MAIN)),
    ]
    release = expected_release(found, "/bin/app", 10)
    assert release == Release((LIBRARY, DONE, MAIN), 5, 10, 1.0, 1)
    assert release_sentence(release, 3) == (
        "5 of 10 frees of blocks from here were in request_done+0x1c (http.c:412), "
        "after 1.0 s on average; these 3 were not freed"
    )


def test_no_frames_no_place():
    assert expected_release([], "/bin/app", 0) is None
    assert expected_release([(ReleaseCount(ALLOC, 1, 4, 40), ())], "/bin/app", 4) is None


def test_stacks_with_the_same_code_count_together():
    rows = [ReleaseCount(ALLOC, 21, 2, 5), ReleaseCount(ALLOC + 5, 20, 3, 7)]
    rows += [ReleaseCount(OTHER, 20, 1, 1), ReleaseCount(ALLOC, 30, 1, 1)]

    def same(ids):
        return [{ALLOC + 5: ALLOC, 21: 20}.get(one, one) for one in ids]

    assert candidates(rows, {ALLOC}, same) == {
        ALLOC: [ReleaseCount(ALLOC, 20, 5, 12), ReleaseCount(ALLOC, 30, 1, 1)]
    }
