# SPDX-License-Identifier: Apache-2.0
"""Which pages hold data, in the memory of the test itself."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest
from harness.own_memory import PAGE, OwnMemory

from kwatch.reach import page_entries
from kwatch.reach import pages as reach_pages
from kwatch.reach.pages import PageMap

#: Addresses that cost nothing until they are used.
RESERVE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
RESERVED = 1 << 40


@pytest.fixture(params=["scan", "entries"])
def pages(request):
    """Both ways must say the same."""
    found = PageMap(os.getpid())
    if request.param == "entries":
        found._scans = False
    else:
        found.resident(0, PAGE, shared=False)
        if not found._scans:
            pytest.skip("the kernel has no PAGEMAP_SCAN")
    yield found
    found.close()


def runs(pages, memory, start=None, end=None, shared=False):
    """As numbers of pages."""
    found = pages.resident(start or memory.start, end or memory.end, shared)
    return [((a - memory.start) / PAGE, (b - memory.start) / PAGE) for a, b in found.tolist()]


def test_only_written_pages_are_listed(pages):
    memory = OwnMemory(64)
    memory.write(0, 5, 6, 7, 63)
    assert runs(pages, memory) == [(0, 1), (5, 8), (63, 64)]


def test_nothing_is_listed_where_nothing_is(pages):
    memory = OwnMemory(64)
    assert runs(pages, memory) == []
    assert pages.resident(memory.start, memory.start, False).shape == (0, 2)


def test_runs_keep_to_the_bounds(pages):
    memory = OwnMemory(8)
    memory.write(*range(8))
    start, end = memory.start + 24, memory.end - PAGE - 8
    assert pages.resident(start, end, False).tolist() == [[start, end]]


def test_many_runs(pages, monkeypatch):
    """The kernel returns a few at a time."""
    monkeypatch.setattr(reach_pages, "_MAX_RUNS", 3)
    monkeypatch.setattr(page_entries, "_MAX_AT_ONCE", 7)
    memory = OwnMemory(50)
    memory.write(*range(0, 50, 2))
    single = [(page, page + 1) for page in range(0, 50, 2)]
    covered = {page for a, b in runs(pages, memory) for page in np.arange(a, b)}
    assert covered == {page for page, _ in single}


def test_shared_memory(pages):
    memory = OwnMemory(16, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    memory.write(3, 9)
    assert runs(pages, memory, shared=True) == [(3, 4), (9, 10)]


def test_pages_of_a_file_are_the_processs_own_once_written(pages, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * PAGE))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 4 * PAGE, mmap.MAP_PRIVATE)
    array = np.frombuffer(mapped, np.uint8)
    assert array[::PAGE].sum() == 0  # reads all pages
    start = array.ctypes.data
    assert pages.resident(start, start + 4 * PAGE, shared=False).tolist() == []
    mapped[2 * PAGE] = 1
    written = [[start + 2 * PAGE, start + 3 * PAGE]]
    assert pages.resident(start, start + 4 * PAGE, shared=False).tolist() == written


def test_a_large_empty_mapping_is_not_looked_up(pages, monkeypatch):
    monkeypatch.setattr(page_entries, "_MAX_AT_ONCE", 0)  # a step of 0 is an error
    reserved = mmap.mmap(-1, RESERVED, RESERVE, mmap.PROT_READ)  # merged with no other mapping
    start = np.frombuffer(reserved, np.uint8).ctypes.data
    assert pages.resident(start, start + RESERVED, shared=False).tolist() == []
    assert pages.skipped() == []


def test_a_mapping_that_is_too_large_is_named(pages):
    reserved = mmap.mmap(-1, RESERVED, RESERVE)
    reserved.madvise(mmap.MADV_NOHUGEPAGE)
    reserved[RESERVED // 2] = 1
    start = np.frombuffer(reserved, np.uint8).ctypes.data
    found = pages.resident(start, start + RESERVED, shared=False).tolist()
    middle = start + RESERVED // 2
    if pages._scans:
        assert found == [[middle, middle + PAGE]]
        assert pages.skipped() == []
    else:
        assert found == []
        assert pages.skipped() == [(start, start + RESERVED)]
        assert pages.skipped() == []
