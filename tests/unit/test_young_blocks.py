# SPDX-License-Identifier: Apache-2.0
"""What the kernel kept of young blocks joins the events of the rings, in order of time."""

from __future__ import annotations

import mmap
import os
from types import SimpleNamespace

import numpy as np
import pytest
from harness.records import heap_batch

from kwatch.kernel import bpf
from kwatch.rings.young_blocks import YoungBlocks
from kwatch.wire.events import HEAP, EventType
from kwatch.wire.maps import YOUNG_ENTRIES, YoungState

BY_STACK = 1


class Table:
    """A table as bpf/young_blocks.h keeps it: what a run takes out of each group."""

    def __init__(self):
        self.groups = {}
        self.state = self.shared(mmap.PAGESIZE)
        self.taken = self.shared(-(-YOUNG_ENTRIES * HEAP.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.maps = {
            "young_state": SimpleNamespace(fd=self.state[0]),
            "taken_blocks": SimpleNamespace(fd=self.taken[0]),
        }

    @staticmethod
    def shared(size):
        fd = os.memfd_create("map")
        os.truncate(fd, size)
        return fd, mmap.mmap(fd, size)

    def put(self, group, *records):
        self.groups.setdefault(group, []).extend(records)
        YoungState.from_buffer(self.state[1]).is_used[group] = 1

    def run(self, program, group, count):
        batch = heap_batch(self.groups.pop(group))
        np.frombuffer(self.taken[1], HEAP, YOUNG_ENTRIES)[count : count + len(batch)] = batch
        YoungState.from_buffer(self.state[1]).is_used[group] = 0
        return count + len(batch)


@pytest.fixture
def table(monkeypatch):
    made = Table()
    monkeypatch.setattr(bpf, "run_program", made.run)
    return made


def alloc(time_ns):
    return {"type": EventType.ALLOC, "time_ns": time_ns}


def times(batch):
    return sorted(batch["time_ns"].tolist())


def test_what_is_younger_than_the_cut_waits_for_the_next_one(table):
    young = YoungBlocks(table.maps, 0, by_stack=True)
    assert YoungState.from_buffer(table.state[1]).by_stack == BY_STACK
    table.put(0, alloc(10), alloc(40))
    table.put(35, alloc(20))
    young.take()
    assert times(young.read(30)) == [10, 20]
    table.put(7, alloc(35))
    young.take()
    assert times(young.read(100)) == [35, 40]
    young.take()
    assert times(young.read(1000)) == []
    young.close()


def test_what_nobody_read_is_counted_by_its_events(table):
    young = YoungBlocks(table.maps, 0, by_stack=False)
    sums = {"type": EventType.PAIRS, "tid": 5, "time_ns": 3}
    table.put(1, sums, alloc(4), {"type": EventType.RELEASES, "tid": 5, "time_ns": 3}, alloc(9))
    young.take()
    assert young.left(9) == 2 * 5 + 1
    assert young.left(10) == 2 * 5 + 2
    young.close()
