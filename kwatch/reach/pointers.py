# SPDX-License-Identifier: Apache-2.0
"""Reads a process's memory and keeps the words in it that point to blocks of its heap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64, Index
from kwatch.reach.graph import INTERIOR, Codes, PointerGraph
from kwatch.reach.growing import GrowingArray
from kwatch.reach.heuristics import Heuristics, Interior, slacks_of
from kwatch.reach.index import BlockIndex
from kwatch.reach.kernel_words import KernelWord
from kwatch.reach.layout import HeapLayout
from kwatch.reach.live_stacks import StackRegion, Thread
from kwatch.reach.memory import WORD, Ranges, TargetMemory, as_ranges
from kwatch.reach.pages import PageMap
from kwatch.reach.ranges import Mask, batches, contains, merged, subtract, whole_words
from kwatch.reach.regions import Region

#: Memory that is read at once: small enough for the CPU's cache.
_BATCH = 1 << 20
_WORD = np.uint64(WORD)
STACK_POINTER = "sp"


@dataclass(frozen=True, slots=True)
class Roots:
    """Pointers to blocks from outside the blocks: in words of memory and in registers.

    `registers`: the thread, and the register's name; or 0, and what in the kernel holds a pointer.
    """

    addresses: U64
    codes: Codes
    registers: tuple[tuple[int, str], ...]
    register_codes: Codes


@dataclass(frozen=True, slots=True)
class Pointers:
    graph: PointerGraph
    roots: Roots
    unreadable: tuple[tuple[int, int], ...]
    read_bytes: int


def read_ranges(
    regions: Sequence[Region], pages: PageMap, own: Ranges, stacks: Sequence[StackRegion]
) -> Ranges:
    """The memory that may hold pointers, by address."""
    starts = {stack.region.start: stack.start for stack in stacks}
    found = [np.empty((0, 2), np.uint64)]
    for region in regions:
        if region.may_hold_pointers:
            start = starts.get(region.start, region.start)
            for first, last in subtract(start, region.end, own).tolist():
                found.append(pages.resident(first, last, region.is_shared))
    return whole_words(np.concatenate(found))


def code_ranges(regions: Sequence[Region], pages: PageMap) -> Ranges:
    """Code that was generated at run time: its instructions have pointers at any address."""
    found = [np.empty((0, 2), np.uint64)]
    for region in regions:
        if region.is_generated_code:
            found.append(pages.resident(region.start, region.end, region.is_shared))
    return whole_words(np.concatenate(found))


class PointerReader:
    """Collects the pointers of one scan. Takes memory by ascending addresses."""

    def __init__(self, memory: TargetMemory, layout: HeapLayout, heuristics: Heuristics) -> None:
        self._memory = memory
        self._layout = layout
        self._index = BlockIndex(layout.starts, layout.sizes)
        self._heuristics = heuristics
        self._counts = np.zeros(len(layout), np.uint32)
        self._codes = GrowingArray(np.uint32)
        self._root_addresses = GrowingArray(np.uint64)
        self._root_codes = GrowingArray(np.uint32)
        self._registers: list[tuple[int, str]] = []
        self._register_codes = GrowingArray(np.uint32)
        self._unreadable: list[tuple[int, int]] = []
        self._bytes = 0
        self._into = np.empty(2 * _BATCH, np.uint8)
        self._distances = np.empty(2 * _BATCH // WORD, np.uint64)

    def read(self, ranges: Ranges) -> None:
        """Reads the words at multiples of 8, in ascending order."""
        self._read(ranges, is_code=False)

    def read_code(self, ranges: Ranges) -> None:
        """Reads the words at all other addresses, as roots. `ranges`: whole words."""
        for shift in range(1, WORD):
            starts, ends = ranges[:, 0] + np.uint64(shift), ranges[:, 1] - np.uint64(WORD - shift)
            self._read(np.column_stack((starts, ends))[starts < ends], is_code=True)

    def _read(self, ranges: Ranges, is_code: bool) -> None:
        for part in batches(ranges, _BATCH):
            lengths = part[:, 1] - part[:, 0]
            into = self._into[: int(lengths.sum())]
            self._unreadable += self._memory.read(part, into)
            self._bytes += len(into)
            words = into.view(np.uint64)
            at = self._candidates(words)
            if len(at):
                before = ((np.cumsum(lengths) - lengths) // _WORD).astype(np.intp)
                row = before.searchsorted(at, "right") - 1
                addresses = part[row, 0] + (at - before[row]).astype(np.uint64) * _WORD
                self._add(addresses, words[at], is_code)

    def add_threads(self, threads: Sequence[Thread]) -> None:
        """The registers are roots. A block with a stack pointer in it is in use as a stack."""
        for thread in threads:
            values, names, top = thread.registers, thread.names, thread.stack_pointer
            if top is not None and not np.any(values == np.uint64(top)):
                values, names = np.append(values, np.uint64(top)), (*names, STACK_POINTER)
            _, codes, kept = self._targets(values)
            if top is not None:
                codes[values[kept] == np.uint64(top)] &= ~INTERIOR
            self._register_codes.extend(codes)
            self._registers += [(thread.tid, names[at]) for at in np.flatnonzero(kept)]

    def add_kernel_words(self, words: Sequence[KernelWord]) -> None:
        _, codes, kept = self._targets(np.array([word.value for word in words], np.uint64))
        self._register_codes.extend(codes)
        self._registers += [(0, words[at].place) for at in np.flatnonzero(kept).tolist()]

    def finish(self) -> Pointers:
        first = np.zeros(len(self._counts) + 1, np.intp)
        np.cumsum(self._counts, out=first[1:])
        graph = PointerGraph(first, self._codes.array())
        roots = Roots(
            self._root_addresses.array(),
            self._root_codes.array(),
            tuple(self._registers),
            self._register_codes.array(),
        )
        return Pointers(graph, roots, tuple(self._unreadable), self._bytes)

    def _candidates(self, words: U64) -> Index:
        """The words that are addresses between the first block and the end of the last one."""
        distances = self._distances[: len(words)]
        np.subtract(words, np.uint64(self._index.low), out=distances)
        return np.flatnonzero(distances < np.uint64(self._index.high - self._index.low))

    def _add(self, addresses: U64, values: U64, is_code: bool) -> None:
        targets, codes, kept = self._targets(values)
        if not kept.all():
            addresses = addresses[kept]
        sources, offsets = self._index.find(addresses)
        held = sources >= 0
        if not held.all():
            outside = ~held & ~contains(self._layout.pieces, addresses)
            self._root_addresses.extend(addresses[outside])
            self._root_codes.extend(codes[outside])
        if is_code:
            return
        held &= sources != targets
        held &= offsets + _WORD <= self._index.lengths[sources]  # the whole word
        if held.any():
            sources = sources[held]
            counts = np.bincount(sources - sources[0]).astype(np.uint32)
            self._counts[sources[0] : sources[0] + len(counts)] += counts
            self._codes.extend(codes[held])

    def _targets(self, values: U64) -> tuple[Index, Codes, Mask]:
        """The blocks that words point to, as numbers and codes, and which words do."""
        blocks, offsets = self._index.find(values)
        kept = blocks >= 0
        if not kept.all():
            blocks, offsets, values = blocks[kept], offsets[kept], values[kept]
        interior = offsets != 0
        at = np.flatnonzero(interior)
        if len(at):
            interior[at] = ~self._count_as_starts(values[at], blocks[at])
        codes = (blocks.astype(np.uint32) << np.uint32(1)) | interior
        return blocks, codes, kept

    def _count_as_starts(self, values: U64, blocks: Index) -> Mask:
        values, first, which = np.unique(values, return_index=True, return_inverse=True)
        blocks = blocks[first]
        sizes = self._layout.sizes[blocks]
        slacks = slacks_of(sizes, self._layout.exact[blocks])
        pointers = Interior(values, self._layout.starts[blocks], sizes, slacks)
        return self._heuristics.count_as_starts(pointers)[which]


def stack_ranges(stacks: Sequence[StackRegion]) -> Ranges:
    return merged(as_ranges((stack.start, stack.region.end) for stack in stacks))
