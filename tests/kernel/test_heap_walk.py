# SPDX-License-Identifier: Apache-2.0
"""glibc's heap is walked without symbols; malloc_usable_size() in the program is the answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.heap_walks import is_claimed, said_sizes, usable_sizes, walk_process
from harness.libraries import library

from kwatch.reach.live_scan import scan_live

THREADS = 8
#: libc's own blocks for each thread: its thread vector, and a tcache that is empty.
OWN_BLOCKS = 2 * (THREADS + 8)


def tunable(setting):
    return {"GLIBC_TUNABLES": f"glibc.malloc.{setting}"}


CASES = {
    "plain": ("", (), {}),
    "threads": ("threads", (), {}),
    "without tcache": ("threads", (), tunable("tcache_count=0")),
    "one arena": ("threads", (), tunable("arena_max=1")),
    "long tcache": ("threads", (), tunable("tcache_count=120")),
    "large pages": ("threads", (), tunable("hugetlb=1")),
    "perturb": ("perturb", (), {}),
    "threshold": ("threshold", (), {}),
    "blocked": ("blocked", (), {}),
    "sbrk": ("sbrk", (), {}),
    "fork": ("fork", (), {}),
    "static": ("threads", ("-static",), {}),
    "static, blocked": ("blocked", ("-static",), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_block_is_found(program, start, tmp_path, case):
    way, flags, environment = CASES[case]
    path = tmp_path / "blocks"
    target = start(program("heapwalk", *flags), path, way, environment=environment)
    said = said_sizes(path)
    walk = walk_process(target.answers["pid"])
    found = usable_sizes(walk)
    assert {address: found.get(address) for address in said} == said
    assert walk.unwalked == ()
    assert all(is_claimed(walk, address) for address in said)
    # What else is found is libc's own: it is still there when the program has freed everything.
    target.go("freed")
    left = usable_sizes(walk_process(target.answers["pid"]))
    assert {address: found[address] for address in found.keys() - said.keys()} == left
    assert len(left) <= OWN_BLOCKS


def test_a_running_heap_is_walked(program, start, tmp_path):
    """No walk misses a permanent block in memory that it claims, and nearly all claim all."""
    path = tmp_path / "blocks"
    target = start(program("heapwalk"), path, "busy", prefix=("nice", "-n", "19"))
    said = said_sizes(path)
    complete = 0
    for _ in range(30):
        walk = walk_process(target.pid)
        found = usable_sizes(walk)
        missing = [address for address in said if found.get(address) != said[address]]
        assert not [address for address in missing if is_claimed(walk, address)]
        complete += not walk.unwalked
    assert complete >= 25


def test_a_heap_that_grows_is_recognized(program, start):
    """Its end can be in memory that was mapped after kwatch had listed the mappings."""
    target = start(program("regrows"))
    blocks = target.go()["blocks"]
    scans = [scan_live(target.pid, None) for _ in range(150)]
    assert all(scan.is_walked for scan in scans)
    assert max(len(scan.table()) for scan in scans) <= blocks + 2  # stdio may have its own


def test_no_page_is_allocated(program, start, tmp_path):
    """The walk reads no page that is not resident; the page tables tell, mapping by mapping.

    The counter behind VmRSS lags behind them.
    """

    def footprint():
        proc = Path(f"/proc/{target.pid}")
        tables = re.search(r"VmPTE:\s*(\d+)", (proc / "status").read_text())[1]
        resident = re.findall(r"^([0-9a-f]+-.*)|^Rss:(.*)", (proc / "smaps").read_text(), re.M)
        return tables, ["".join(pair) for pair in resident]

    target = start("heapwalk", tmp_path / "blocks", "threads", "without huge pages")
    before = footprint()
    for _ in range(5):
        walk_process(target.pid)
    assert footprint() == before


@pytest.mark.needs("musl")
def test_musl_is_left_alone(program, start):
    target = start(program("leaky", compiler="musl-gcc"))
    target.go()
    assert walk_process(target.pid) is None


@pytest.mark.parametrize(
    "allocator",
    [
        pytest.param(name, marks=pytest.mark.needs(name))
        for name in ("jemalloc", "mimalloc", "tcmalloc")
    ],
)
def test_a_preloaded_allocator_is_left_alone(start, allocator):
    target = start("leaky", environment={"LD_PRELOAD": str(library(f"lib{allocator}"))})
    target.go()
    assert walk_process(target.pid) is None
