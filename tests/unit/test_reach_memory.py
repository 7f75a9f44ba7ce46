# SPDX-License-Identifier: Apache-2.0
"""Reads the memory of the test itself, with holes in it."""

from __future__ import annotations

import mmap
import os
import subprocess
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from harness.own_memory import PAGE, OwnMemory

from kwatch.reach.live_scan import still_unreadable
from kwatch.reach.memory import TargetMemory, Unreadable, as_ranges
from kwatch.reach.pages import PageMap

NO_ACCESS = 0


@pytest.fixture
def target():
    memory = TargetMemory(os.getpid())
    yield memory
    memory.close()


def read(target, *ranges):
    """The bytes, which are 0xAA before, and the ranges that cannot be read."""
    into = np.full(sum(end - start for start, end in ranges), 0xAA, np.uint8)
    return into, target.read(as_ranges(ranges), into)


def test_ranges_are_read_one_after_the_other(target):
    memory = OwnMemory(4)
    memory.write(0, 3)
    into, unreadable = read(
        target, (memory.at(3) + 5, memory.at(3) + 8), (memory.start, memory.at(1))
    )
    assert into.tolist() == [4] * 3 + [1] * PAGE
    assert unreadable == []


def test_more_ranges_than_the_kernel_takes_at_once(target):
    memory = OwnMemory(10)
    memory.bytes[:] = np.arange(10 * PAGE) % 251
    starts = memory.start + np.arange(2500) * 16
    into, unreadable = read(target, *((int(start), int(start) + 3) for start in starts))
    expected = ((np.arange(2500) * 16)[:, None] + np.arange(3)) % 251
    assert into.reshape(-1, 3).tolist() == expected.tolist()
    assert unreadable == []


def test_a_hole_is_zeros_and_is_named(target):
    memory = OwnMemory(8)
    memory.write(*range(8))
    memory.unmap(3)
    memory.unmap(4)
    memory.unmap(6)
    into, unreadable = read(target, (memory.at(1), memory.at(2)), (memory.at(2) + 8, memory.at(8)))
    assert unreadable == [(memory.at(3), memory.at(5)), (memory.at(6), memory.at(7))]
    expected = np.concatenate(
        [
            np.full(PAGE, 2),
            np.full(PAGE - 8, 3),
            np.zeros(2 * PAGE),
            np.full(PAGE, 6),
            np.zeros(PAGE),
            np.full(PAGE, 8),
        ]
    )
    assert (into == expected).all()


def test_ranges_behind_a_hole_are_read(target):
    """The kernel's answer ends at the first range that it cannot read."""
    memory = OwnMemory(3)
    memory.write(0, 2)
    memory.unmap(1)
    into, unreadable = read(
        target, *((memory.at(page), memory.at(page) + 16) for page in (1, 0, 2))
    )
    assert into.tolist() == [0] * 16 + [1] * 16 + [3] * 16
    assert unreadable == [(memory.at(1), memory.at(1) + 16)]


def test_memory_without_read_permission(target):
    memory = OwnMemory(3)
    memory.write(0, 1, 2)
    memory.protect(1, NO_ACCESS)
    into, unreadable = read(target, (memory.start, memory.end))
    memory.protect(1, mmap.PROT_READ | mmap.PROT_WRITE)
    assert (into == memory.bytes).all()
    assert unreadable == []


def test_words_and_bytes(target):
    memory = OwnMemory(2)
    memory.bytes[:PAGE].view(np.uint64)[:3] = 7, 2**64 - 1, 9
    assert target.words(memory.start, 3).tolist() == [7, 2**64 - 1, 9]
    assert target.bytes(memory.start, 2).tolist() == [7, 0]
    memory.unmap(1)
    with pytest.raises(Unreadable, match=f"{memory.at(1) - 8:#x}"):
        target.words(memory.at(1) - 8, 2)


def test_nothing_can_be_read_of_a_process_that_has_ended():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    target = TargetMemory(child.pid)
    child.communicate()
    memory = OwnMemory(1)
    into, unreadable = read(target, (memory.start, memory.end))
    assert unreadable == [(memory.start, memory.end)]
    assert not into.any()
    target.close()


def test_what_the_process_has_unmapped_meanwhile_is_not_unreadable(target):
    """Else every process that frees large blocks would have some."""
    memory = OwnMemory(4)
    memory.write(0, 1, 2)  # the last page does not exist
    memory.unmap(1)
    _, unreadable = read(target, (memory.at(0), memory.at(2)))
    assert unreadable == [(memory.at(1), memory.at(2))]
    with closing(PageMap(os.getpid())) as pages:
        assert still_unreadable(target, pages, unreadable) == 0
        protected = SimpleNamespace(read=lambda ranges, into: ranges.tolist())
        ranges = [(memory.at(0), memory.at(2)), (memory.at(2), memory.at(4))]
        assert still_unreadable(protected, pages, ranges) == 2 * PAGE
