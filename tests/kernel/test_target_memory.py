# SPDX-License-Identifier: Apache-2.0
"""The memory of a process is read whole, and the process does not grow by it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import read_regions

KIB = 1024


def sizes(pid):
    """From /proc/PID/status, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {key: int(value) * KIB for key, value in re.findall(r"^(\w+):\s+(\d+) kB", status, re.M)}


class Scan:
    """Reads all memory that may hold pointers."""

    def __init__(self, pid):
        self._pid, self._memory, self.pages = pid, TargetMemory(pid), PageMap(pid)
        self.unreadable = []

    def own_addresses(self):
        """The words that equal their own address, and how many bytes were read."""
        found, total, self.unreadable = set(), 0, []
        for region in read_regions(self._pid):
            if not region.may_hold_pointers:
                continue
            runs = self.pages.resident(region.start, region.end, region.is_shared)
            into = np.empty(int((runs[:, 1] - runs[:, 0]).sum()), np.uint8)
            self.unreadable += self._memory.read(runs, into)
            words, filled = into.view(np.uint64), 0
            for start, end in runs.tolist():
                part = words[filled // 8 : (filled + end - start) // 8]
                found.update(part[part == np.arange(start, end, 8, dtype=np.uint64)].tolist())
                filled += end - start
            total += filled
        return found, total

    def close(self):
        self._memory.close()
        self.pages.close()


@pytest.fixture
def target(start):
    return start("sparse")


@pytest.fixture(params=["scan", "entries"])
def scan(target, request):
    """With PAGEMAP_SCAN, and as on kernels without it."""
    scan = Scan(target.pid)
    scan.pages._scans = request.param == "scan"
    yield scan
    scan.close()


def written(target):
    return {value for key, value in target.answers.items() if key not in ("zeros", "installed")}


def test_every_written_page_is_read(target, scan):
    found, _ = scan.own_addresses()
    assert written(target) <= found


def test_guard_pages_are_named_as_unreadable(target, scan):
    """Some kernels list them among the pages with data."""
    scan.own_addresses()
    guard = target.answers.get("installed")
    expected = [] if guard is None else [(guard, guard + 4096)]
    assert scan.unreadable in ([], expected)


def test_the_process_does_not_grow(target, scan):
    before = sizes(target.pid)
    _, total = scan.own_addresses()
    assert total < 64 << 20  # not the 5 GB that are mapped
    for _ in range(99 if scan.pages._scans else 19):
        scan.own_addresses()
    after = sizes(target.pid)
    assert after["VmRSS"] - before["VmRSS"] < 1 << 20
    assert after["VmPTE"] - before["VmPTE"] < 100 * KIB
    assert target.go() == {"unchanged": 1}
