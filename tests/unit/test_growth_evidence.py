# SPDX-License-Identifier: Apache-2.0
"""What is said of growth, and which growth is worth a word."""

from __future__ import annotations

import numpy as np
import pytest
from harness.records import heap_batch, typed

from kwatch.aggregate.older_frees import OlderFrees
from kwatch.aggregate.stack_ages import stack_ages
from kwatch.model.growth import Grown, GrowthKind
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Descriptors, HeapStats, MemoryStats
from kwatch.ownership.process_growth import Quantity
from kwatch.ownership.stack_growth import AGE_PARTS, StackGrowth
from kwatch.probes.coverage import Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process
from kwatch.procfs.mappings import Mapping
from kwatch.report.growth import growth_of
from kwatch.report.unseen import level_text
from kwatch.wire.events import EventType

MIB = 1 << 20


@pytest.fixture
def process():
    accounts = Accounts.wanted(TraceOptions())
    return Process(ProcessFacts(7, 1.0, "app", "/app"), 1, Coverage(7), accounts)


def evidence(process, *, memory=None, descriptors=None, heap=None):
    return growth_of(process, heap or HeapStats(), memory or MemoryStats(), descriptors)


def sample(process, quantity, value_at, seconds=60):
    for time in range(seconds + 1):
        process.growth.add(time * 10**9, quantity, value_at(time))


def test_descriptors_that_add_up_in_a_short_time(process):
    [found] = evidence(process, descriptors=Descriptors(130, 100))
    assert found.kind is GrowthKind.UNKNOWN
    assert found.sentence.startswith("100 more file descriptors are open")
    assert evidence(process, descriptors=Descriptors(130, 99)) == []


def test_descriptors_that_keep_growing(process):
    sample(process, Quantity.DESCRIPTORS, lambda time: time)
    [found] = evidence(process, descriptors=Descriptors(60, 60))
    assert found.kind is GrowthKind.GROWING
    assert found.sentence == (
        "60 more file descriptors are open than when kwatch attached (ls -l /proc/7/fd lists "
        "them); their number grows by 1.0/s ± 0.0/s over 1.0 min and does not level off"
    )


def test_descriptors_that_have_reached_their_level(process):
    sample(process, Quantity.DESCRIPTORS, lambda time: 500 if time > 5 else 0)
    assert evidence(process, descriptors=Descriptors(500, 500)) == []


def test_a_heap_that_grows_more_slowly_has_not_levelled_off(process):
    """The load of a leak may have fallen."""
    sample(process, Quantity.HEAP_BYTES, lambda time: 80 * MIB * (time / 60) ** 0.6)
    [found] = evidence(process, heap=HeapStats(young_bytes=4 * MIB))
    assert found.kind is GrowthKind.UNKNOWN
    assert found.sentence == (
        "the heap has grown by 80.0 MiB, ever more slowly, and has not levelled off"
    )


def test_a_heap_that_has_levelled_off(process):
    sample(process, Quantity.HEAP_BYTES, lambda time: 80 * MIB * (1 - 0.9**time))
    assert evidence(process, heap=HeapStats(young_bytes=4 * MIB)) == []


def test_a_large_growth_counts_at_any_age(process):
    sample(process, Quantity.HEAP_BYTES, lambda time: time * MIB, seconds=20)
    [found] = evidence(process)
    assert found.kind is GrowthKind.UNKNOWN
    assert found.sentence == "the heap keeps growing (by 20.0 MiB so far)"


def test_a_small_growth_of_old_blocks_is_judged_by_stack(process):
    sample(process, Quantity.HEAP_BYTES, lambda time: time * MIB / 2, seconds=20)
    assert evidence(process) == []


def level(process, unseen_mib, untraced=""):
    return level_text(process, MemoryStats(unseen_bytes=unseen_mib * MIB), untraced)


def test_unseen_memory_in_a_short_time(process):
    sample(process, Quantity.UNSEEN_BYTES, lambda time: 40 * MIB if time else 0, seconds=20)
    [found] = evidence(process, memory=MemoryStats(unseen_bytes=40 * MIB))
    assert found.kind is GrowthKind.UNKNOWN
    assert level(process, 40) == ""


def test_unseen_memory_that_keeps_growing(process):
    process.code.map([Mapping(0, 4096, 0, "/usr/lib/jvm/lib/server/libjvm.so", 1, 1, True)])
    sample(process, Quantity.UNSEEN_BYTES, lambda time: time * MIB)
    [found] = evidence(process, memory=MemoryStats(unseen_bytes=60 * MIB))
    assert (found.what, found.kind) == (Grown.UNSEEN_MEMORY, GrowthKind.GROWING)
    assert found.sentence == (
        "anonymous memory grew by 60.0 MiB that no probed allocator gave out; it grows by "
        "1.0 MiB/s ± 0 B/s over 1.0 min and does not level off; the JVM has an allocator of its "
        "own: jcmd PID GC.heap_info shows its heap"
    )
    assert level(process, 60) == ""


def test_unseen_memory_that_has_levelled_off(process):
    sample(process, Quantity.UNSEEN_BYTES, lambda time: 40 * MIB if time > 5 else 0)
    assert evidence(process, memory=MemoryStats(unseen_bytes=40 * MIB)) == []
    assert level(process, 40) == (
        "anonymous memory grew by 40.0 MiB that no probed allocator gave out, and has levelled off"
    )


def test_unseen_memory_that_grows_more_slowly_has_not_levelled_off(process):
    sample(process, Quantity.UNSEEN_BYTES, lambda time: 80 * MIB * (time / 60) ** 0.6)
    [found] = evidence(process, memory=MemoryStats(unseen_bytes=80 * MIB))
    assert found.kind is GrowthKind.UNKNOWN
    assert level(process, 80) == ""


def test_little_unseen_memory_is_told_only_if_there_is_nothing_else(process):
    sample(process, Quantity.UNSEEN_BYTES, lambda time: 0)
    assert level(process, 0) == ""
    assert level(process, 0, "no allocator was found") == "its anonymous memory does not grow"


def test_shared_memory(process):
    memory = MemoryStats(shared_growth=40 * MIB)
    [found] = evidence(process, memory=memory)
    assert found.sentence.startswith("resident shared memory grew by 40.0 MiB")
    sample(process, Quantity.SHARED_BYTES, lambda time: 40 * MIB if time else 0)
    assert evidence(process, memory=memory) == []


def test_mappings_that_the_program_makes(process):
    sample(process, Quantity.OWN_MAPPINGS, lambda time: time)
    sample(process, Quantity.OWN_BYTES, lambda time: 4096 * time)
    memory = MemoryStats(own_mappings=60, own_bytes=60 * 4096)
    [found] = evidence(process, memory=memory)
    assert found.kind is GrowthKind.GROWING
    assert found.sentence.endswith(
        "60 mappings (240.0 KiB) that the program made itself since the attach are still mapped; "
        "their size grows by 4.0 KiB/s ± 0 B/s over 1.0 min and does not level off"
    )


def hold(process, blocks_at, older_frees_at=lambda time: 0, stack_at=lambda time: 5, size=64):
    """Blocks of `size` bytes at the times that `blocks_at` gives, of the stack of that time."""
    process.growth.stacks = StackGrowth()
    for time in range(61):
        now_ns = time * 10**9
        new = [t for t in blocks_at if time - 1 < t <= time]
        process.heap.add(*typed(heap_batch(_allocs(new, stack_at, size))))
        stacks = process.growth.stacks
        ages = stack_ages(process.heap.live_blocks(), stacks.since_ns(now_ns), now_ns, AGE_PARTS)
        stacks.add(now_ns, *ages)
        process.growth.add(now_ns, Quantity.OLDER_FREES, older_frees_at(time))
        process.growth.add(now_ns, Quantity.HEAP_BYTES, process.heap.live_bytes)
        process.growth.add(now_ns, Quantity.HEAP_BLOCKS, process.heap.live_count)


def _allocs(times, stack_at, size):
    for time in times:
        yield {
            "type": EventType.ALLOC,
            "address": int(time * 1000) * 64,
            "size": size,
            "stack": stack_at(time),
            "time_ns": int(time * 1e9),
        }


def test_a_stack_that_holds_ever_more(process):
    hold(process, np.arange(0.1, 60, 0.1))
    [found] = evidence(process)
    assert (found.kind, found.stack) == (GrowthKind.GROWING, 5)
    assert found.sentence.startswith("their size grows by 639 B/s ± 2 B/s")
    assert found.sentence.endswith("over 59.0 s and does not level off")


@pytest.mark.parametrize(
    ("mapped_per_s", "first"), [(1 << 20, Grown.MAPPINGS), (256, Grown.BLOCKS)]
)
def test_what_grows_by_more_bytes_comes_first(process, mapped_per_s, first):
    """An allocator of its own keeps its books with malloc: they grow beside its arenas."""
    hold(process, np.arange(0.1, 60, 0.1))
    sample(process, Quantity.OWN_MAPPINGS, lambda time: time)
    sample(process, Quantity.OWN_BYTES, lambda time: mapped_per_s * time)
    memory = MemoryStats(own_mappings=60, own_bytes=60 * mapped_per_s)
    found = evidence(process, memory=memory)
    assert [each.kind for each in found] == [GrowthKind.GROWING] * 2
    assert found[0].what is first


def test_new_blocks_in_the_place_of_older_ones_do_not_grow(process):
    """A cache that was full when kwatch attached."""
    hold(process, np.arange(0.1, 60, 0.1), lambda time: 10 * time)
    [found] = evidence(process)
    assert found.kind is GrowthKind.UNKNOWN
    assert "as many from before the attach are freed meanwhile" in found.sentence


def recompiled(time):
    """A JIT compiler moves the code every 15 seconds."""
    return 100 + int(time / 15)


def test_a_heap_that_grows_by_one_stack_after_the_other(process):
    hold(process, np.arange(0.1, 60, 0.1), stack_at=recompiled, size=20_000)
    [found] = evidence(process)
    assert (found.what, found.kind, found.unit) == (Grown.HEAP, GrowthKind.GROWING, "bytes")
    assert found.per_s == pytest.approx(200_000, rel=0.01)
    assert found.sentence.startswith(
        "the heap as a whole has grown by 11.4 MiB; it grows by 195.0 KiB/s"
    )
    assert sorted(found.stacks) == [100, 101, 102, 103]
    assert found.stack == found.gains[0].stack
    assert sum(each.bytes for each in found.gains) == 599 * 20_000


def test_a_heap_that_replaces_older_blocks_may_not_grow(process):
    older = np.arange(0.1, 60, 0.1)
    hold(process, older, lambda time: 10 * time, stack_at=recompiled, size=20_000)
    [found] = evidence(process)
    assert (found.what, found.kind) == (Grown.HEAP, GrowthKind.UNKNOWN)
    assert "as many blocks from before the attach are freed meanwhile" in found.sentence


def test_a_stack_that_explains_the_heap_is_told_alone(process):
    hold(process, np.arange(0.1, 60, 0.1), size=20_000)
    [found] = evidence(process)
    assert (found.what, found.stack) == (Grown.BLOCKS, 5)


def test_a_small_stack_does_not_explain_the_heap(process):
    """One of many stacks goes on; the others end in turn."""
    hold(
        process,
        np.arange(0.1, 60, 0.1),
        stack_at=lambda time: 5 if round(time * 10) % 10 == 0 else recompiled(time),
        size=20_000,
    )
    first, second = evidence(process)
    assert (first.what, second.what, second.stack) == (Grown.HEAP, Grown.BLOCKS, 5)


def test_the_ends_of_threads_hide_no_growth(process):
    """Their caches free the same addresses again and again, more than the stack gains blocks."""
    frees = OlderFrees()

    def older_frees(_):
        frees.add(np.arange(64, 64 * 91, 64, dtype=np.uint64))
        return frees.count()

    hold(process, np.arange(0.1, 60, 0.1), older_frees)
    [found] = evidence(process)
    assert found.kind is GrowthKind.GROWING


def test_a_program_that_was_traced_from_its_exec_has_no_older_blocks(process):
    assert process.may_have_older_blocks
    child = Process(process.facts, 2, Coverage(8))
    process.forget_heap()
    child.inherit(process, 5)
    assert not process.may_have_older_blocks
    assert not child.may_have_older_blocks
