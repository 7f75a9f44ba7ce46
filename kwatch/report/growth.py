# SPDX-License-Identifier: Apache-2.0
"""What grows in a process without an end in sight, with the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kwatch.aggregate.heap import BLOCK_OVERHEAD
from kwatch.aggregate.stack_ages import ages_of, bytes_by_age, largest_gains
from kwatch.model.growth import Grown, GrowthEvidence, GrowthKind
from kwatch.model.snapshot import Descriptors, HeapStats, MemoryStats
from kwatch.ownership.growth import AGE_BINS
from kwatch.ownership.process_growth import Quantity
from kwatch.ownership.samples import F64
from kwatch.ownership.stack_growth import StackAssessment
from kwatch.processes.process import Process
from kwatch.report.evidence import growing, may_grow, rate
from kwatch.report.unseen import unseen_memory
from kwatch.units import counted, format_size

#: What has grown by less is not reported, even if it goes on,
_MIN_DESCRIPTORS, _MIN_MAPPINGS = 16, 16
_MIN_SHARED, _MIN_YOUNG, _MIN_HEAP = 1 << 20, 1 << 20, 1 << 20  # bytes

#: or if nobody knows yet whether it goes on.
_MANY_DESCRIPTORS, _MANY_MAPPINGS = 100, 100
_MUCH = 16 << 20  # bytes: stacks, relocations and the allocator's own data stay below it

_MIN_NET = 1.5  # blocks that a stack gains for each one from before the attach that is freed
_MAX_GAINS = 32  # stacks of the whole heap that are named together


def growth_of(
    process: Process, heap: HeapStats, memory: MemoryStats, descriptors: Descriptors | None
) -> list[GrowthEvidence]:
    """What grows or may grow, the weightiest first.

    That is the whole heap if no stacks explain it, stacks of blocks by bytes, and the rest. Memory
    outside the heap comes first if it grows by more.
    """
    stacks = growing_stacks(process)
    whole = whole_heap(process)
    if whole is not None and _explain(stacks, whole):
        whole = None
    inside = [whole, *stacks] if whole is not None else stacks
    outside = [each for each in _outside(process, heap, memory) if each is not None]
    in_heap = max(sum(map(_bytes_per_s, stacks)), _bytes_per_s(whole) if whole else 0)
    is_outside_first = max(map(_bytes_per_s, outside), default=0) > in_heap
    found = [
        *([*outside, *inside] if is_outside_first else [*inside, *outside]),
        None if whole is not None else rising_heap(process, heap),
        shared_memory(process, memory),
        open_descriptors(process, descriptors),
    ]
    return [each for each in found if each is not None]


def _outside(
    process: Process, heap: HeapStats, memory: MemoryStats
) -> Iterator[GrowthEvidence | None]:
    """What grows outside the heap. Unseen memory may be in the mappings."""
    yield own_mappings(process, heap, memory)
    yield unseen_memory(process, memory)


def _bytes_per_s(found: GrowthEvidence) -> float:
    is_size = found.kind is GrowthKind.GROWING and found.unit == "bytes"
    return found.per_s if is_size else 0.0


def growing_stacks(process: Process) -> list[GrowthEvidence]:
    """The stacks whose blocks grow.

    While as many blocks from before the attach are freed, new ones may only replace them.
    """
    account, stacks = process.heap, process.growth.stacks
    if account is None or stacks is None:
        return []
    blocks = account.live_blocks()

    def ages(stack: int, since_ns: int, until_ns: int) -> F64:
        return ages_of(blocks, stack, since_ns, until_ns, AGE_BINS)

    replaced = _replaced_per_s(process)
    return [_stack_evidence(stack, replaced) for stack in stacks.growing(ages)]


def whole_heap(process: Process) -> GrowthEvidence | None:
    """A heap that grows, with the stacks that have gained most. Of each, the growth may have ended.

    In a program with a JIT compiler, the same code gets new addresses, and so new stacks.
    """
    if process.heap is None:
        return None
    blocks = process.heap.held_blocks()

    def ages(since_ns: int, until_ns: int) -> F64:
        return bytes_by_age(blocks, since_ns, until_ns, AGE_BINS)

    grown, since_ns = process.growth.assess_heap(ages)
    number = process.growth.assess(Quantity.HEAP_BLOCKS)
    if grown.kind is not GrowthKind.GROWING or grown.rise < _MIN_HEAP:
        return None
    gains = tuple(largest_gains(blocks, since_ns, _MAX_GAINS))
    said = f"the heap as a whole has grown by {format_size(int(grown.rise))}"
    if number.slope_per_s > _MIN_NET * _replaced_per_s(process):
        found = growing(Grown.HEAP, f"{said}; it", grown, is_size=True)
    else:
        sentence = f"{said}, but as many blocks from before the attach are freed meanwhile"
        found = may_grow(Grown.HEAP, sentence, grown, is_size=True)
    return replace(found, stack=gains[0].stack if gains else None, gains=gains)


def _explain(stacks: Sequence[GrowthEvidence], whole: GrowthEvidence) -> bool:
    """Whether single stacks have at least half of the growth of the whole heap."""
    if whole.kind is not GrowthKind.GROWING:
        return len(stacks) > 0
    return sum(map(_bytes_per_s, stacks)) >= whole.per_s / 2


def _replaced_per_s(process: Process) -> float:
    """How many blocks from before the attach are freed per second."""
    replaced = process.growth.assess(Quantity.OLDER_FREES)
    is_replaced = replaced.kind in (GrowthKind.GROWING, GrowthKind.UNKNOWN)
    return replaced.slope_per_s if is_replaced else 0.0


def own_mappings(process: Process, heap: HeapStats, memory: MemoryStats) -> GrowthEvidence | None:
    """Mappings that the program makes itself."""
    by_count = process.growth.assess(Quantity.OWN_MAPPINGS)
    by_bytes = process.growth.assess(Quantity.OWN_BYTES)
    count = f"{counted(memory.own_mappings, 'mapping')} ({format_size(memory.own_bytes)})"
    verb = "is" if memory.own_mappings == 1 else "are"
    said = f"{count} that the program made itself since the attach {verb} still mapped"
    if by_bytes.kind is GrowthKind.GROWING and memory.own_mappings >= _MIN_MAPPINGS:
        return growing(Grown.MAPPINGS, f"{said}; their size", by_bytes, is_size=True)
    if by_count.kind is GrowthKind.GROWING and memory.own_mappings >= _MIN_MAPPINGS:
        return growing(Grown.MAPPINGS, f"{said}; their number", by_count)
    is_open = GrowthKind.UNKNOWN in (by_count.kind, by_bytes.kind)
    is_much = memory.own_mappings >= _MANY_MAPPINGS or _is_own_growth(heap, memory)
    return may_grow(Grown.MAPPINGS, said, by_count) if is_open and is_much else None


def rising_heap(process: Process, heap: HeapStats) -> GrowthEvidence | None:
    """A heap that grows although no single block gets old, or by much."""
    grown = process.growth.assess(Quantity.HEAP_BYTES)
    is_young = heap.young_bytes >= _MIN_YOUNG
    if grown.rise < (_MIN_YOUNG if is_young else _MUCH):
        return None
    size = format_size(int(grown.rise))
    where = ", in blocks younger than --older" if is_young else ""
    said = f"the heap keeps growing (by {size} so far){where}"
    if grown.kind is GrowthKind.GROWING:
        return growing(Grown.HEAP, f"{said}; it", grown, is_size=True)
    if grown.kind is GrowthKind.UNKNOWN:
        return may_grow(Grown.HEAP, said, grown, is_size=True)
    if grown.kind is GrowthKind.SATURATING and grown.rise >= _MUCH and grown.still_rises:
        said = f"the heap has grown by {size}, ever more slowly, and has not levelled off"
        return may_grow(Grown.HEAP, said, grown, is_size=True)
    return None


def shared_memory(process: Process, memory: MemoryStats) -> GrowthEvidence | None:
    grown = process.growth.assess(Quantity.SHARED_BYTES)
    size = format_size(memory.shared_growth)
    said = (
        f"resident shared memory grew by {size} (mappings, System V or POSIX shared memory, or "
        "files in memory)"
    )
    if grown.kind is GrowthKind.GROWING and memory.shared_growth >= _MIN_SHARED:
        return growing(Grown.SHARED_MEMORY, f"{said}; it", grown, is_size=True)
    is_open = grown.kind is GrowthKind.UNKNOWN and memory.shared_growth >= _MUCH
    return may_grow(Grown.SHARED_MEMORY, said, grown, is_size=True) if is_open else None


def open_descriptors(process: Process, descriptors: Descriptors | None) -> GrowthEvidence | None:
    if descriptors is None or descriptors.growth < _MIN_DESCRIPTORS:
        return None
    grown = process.growth.assess(Quantity.DESCRIPTORS)
    said = f"{descriptors.growth:,} more file descriptors are open than when kwatch attached"
    where = f"(ls -l /proc/{process.pid}/fd lists them)"
    if grown.kind is GrowthKind.GROWING:
        return growing(Grown.DESCRIPTORS, f"{said} {where}; their number", grown)
    is_many = descriptors.growth >= _MANY_DESCRIPTORS or grown.rise >= _MIN_DESCRIPTORS
    is_open = grown.kind is GrowthKind.UNKNOWN and is_many
    return may_grow(Grown.DESCRIPTORS, f"{said} {where}", grown) if is_open else None


def _is_own_growth(heap: HeapStats, memory: MemoryStats) -> bool:
    """Whether memory has grown that may be in the mappings that the program made itself.

    `unseen_bytes` does not say so if the allocators may have kept as much of freed blocks.
    """
    live = heap.live_bytes * 3 // 2 + heap.live_blocks * BLOCK_OVERHEAD
    grown = memory.anonymous_growth + memory.shared_growth - live
    return min(memory.own_bytes, grown) >= _MUCH


def _net(stack: StackAssessment, replaced_per_s: float) -> bool:
    """Whether the stack gains clearly more blocks than are freed from before the attach."""
    is_buffer = stack.blocks.kind is GrowthKind.STEADY
    return is_buffer or stack.blocks.slope_per_s > _MIN_NET * replaced_per_s


def _stack_evidence(stack: StackAssessment, replaced_per_s: float) -> GrowthEvidence:
    if not _net(stack, replaced_per_s):
        number = f"their number {rate(stack.blocks)}"
        sentence = f"{number}, but as many from before the attach are freed meanwhile"
        found = may_grow(Grown.BLOCKS, sentence, stack.blocks)
    elif stack.bytes.kind is GrowthKind.GROWING:
        found = growing(Grown.BLOCKS, "their size", stack.bytes, is_size=True)
    else:
        found = growing(Grown.BLOCKS, "their number", stack.blocks)
    return replace(found, stack=stack.stack)
