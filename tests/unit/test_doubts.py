# SPDX-License-Identifier: Apache-2.0
"""Why the heap's numbers may not show everything that a process holds."""

from __future__ import annotations

import pytest

from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import HeapStats, MemoryStats
from kwatch.model.usage import Usage
from kwatch.probes.coverage import Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process
from kwatch.procfs.mappings import Mapping
from kwatch.report.doubts import doubts, thread_end_frees, unknown_frees
from kwatch.report.growth import growth_of
from kwatch.report.unseen import unseen_bytes

MIB = 1 << 20


def doubts_of(process, heap, memory, descriptors):
    return doubts(process, heap, memory, growth_of(process, heap, memory, descriptors))


@pytest.fixture
def process():
    accounts = Accounts.wanted(TraceOptions())
    return Process(ProcessFacts(7, 1.0, "app", "/app"), 1, Coverage(7), accounts)


def unseen(process, grown, peak_bytes=0, peak_blocks=0):
    for anonymous in (0, grown):
        process.usage.add(Usage(anonymous))
    process.heap.peak_bytes, process.heap.peak_blocks = peak_bytes, peak_blocks
    return unseen_bytes(process)


@pytest.mark.parametrize(
    ("peak_bytes", "peak_blocks", "expected"),
    [
        (0, 0, 100 * MIB),
        (40 * MIB, 0, 40 * MIB),
        (60 * MIB, 0, 0),
        (4 * MIB, 2 * MIB, 30 * MIB),
        (4 * MIB, 3 * MIB, 0),
    ],
    ids=["all", "some", "explained", "small blocks", "many small blocks"],
)
def test_allocators_explain_their_peak_and_half_as_much(process, peak_bytes, peak_blocks, expected):
    assert unseen(process, 100 * MIB, peak_bytes, peak_blocks) == expected


def test_a_little_memory_is_no_reason(process):
    assert unseen(process, 15 * MIB) == 0


@pytest.mark.parametrize(
    ("file", "cure"),
    [
        ("/usr/lib/jvm/lib/server/libjvm.so", "; the JVM has an allocator of its own: jcmd PID"),
        ("/usr/bin/php8.2", "; PHP has an allocator of its own: start it with USE_ZEND_ALLOC=0"),
        ("/usr/bin/cat", ""),
    ],
)
def test_who_may_have_taken_the_memory(process, file, cure):
    process.code.map([Mapping(0, 4096, 0, file, 1, 1, True)])
    [reason] = doubts_of(process, HeapStats(), MemoryStats(unseen_bytes=80 * MIB), None)
    grown = "anonymous memory grew by 80.0 MiB that no probed allocator gave out"
    assert reason.startswith(grown + cure)
    assert bool(cure) == (reason != grown)


def test_what_the_program_mapped_itself_explains_the_growth(process):
    memory = MemoryStats(unseen_bytes=80 * MIB, own_bytes=80 * MIB, own_mappings=2000)
    [reason] = doubts_of(process, HeapStats(), memory, None)
    assert reason.endswith("; the program itself mapped 80.0 MiB in 2,000 mappings")
    [reason] = doubts_of(process, HeapStats(), MemoryStats(own_mappings=2000), None)
    assert reason.startswith("2,000 mappings (0 B) that the program made itself")


@pytest.mark.parametrize(
    ("live_bytes", "memory", "is_doubtful"),
    [
        (0, MemoryStats(own_bytes=80 * MIB, own_mappings=9, anonymous_growth=80 * MIB), True),
        (0, MemoryStats(own_bytes=80 * MIB, own_mappings=9, anonymous_growth=9 * MIB), False),
        (90 * MIB, MemoryStats(own_bytes=80 * MIB, own_mappings=9, anonymous_growth=99), False),
    ],
    ids=["touched", "reserved", "heap"],
)
def test_mappings_beside_a_heap_that_was_larger_once(process, live_bytes, memory, is_doubtful):
    """The allocator may have kept the memory of its peak, or given it back."""
    process.heap.peak_bytes = 1 << 30
    found = list(doubts_of(process, HeapStats(live_bytes=live_bytes), memory, None))
    assert bool(found) == is_doubtful
    assert all("9 mappings (80.0 MiB)" in reason for reason in found)


def test_a_free_that_was_not_seen_is_a_reason_unless_there_was_a_fork(process):
    heap = HeapStats(superseded=3)
    [reason] = doubts_of(process, heap, MemoryStats(), None)
    assert "the addresses of 3 blocks were allocated again" in reason
    process.forked_ns = 5
    assert list(doubts_of(process, heap, MemoryStats(), None)) == []


def test_the_ends_of_threads_explain_some_unknown_frees():
    assert unknown_frees(HeapStats()) == ""
    assert unknown_frees(HeapStats(unknown_frees=1)).startswith("1 block was freed")
    assert "1,000 blocks were freed" in unknown_frees(HeapStats(unknown_frees=1000))
    assert unknown_frees(HeapStats(unknown_frees=2 * 448, thread_end_frees=2 * 448)) == ""
    assert thread_end_frees(2 * 448, ended_threads=2) == 2 * 448
    assert thread_end_frees(2 * 448 + 1, ended_threads=2) == 0
