# SPDX-License-Identifier: Apache-2.0
"""What holds a block of a scanned heap, and what holds a set of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kwatch.aggregate.order import U64, Index
from kwatch.model.reach import Reach
from kwatch.reach.classify import targets_of
from kwatch.reach.graph import INTERIOR, Codes
from kwatch.reach.memory import WORD, TargetMemory, as_ranges
from kwatch.reach.paths import origins, path_to, shortest_paths
from kwatch.reach.ranges import Mask, contains
from kwatch.reach.regions import Region
from kwatch.reach.scan import Scan

#: Blocks of a path are read together: up to so many, or so many bytes.
_MAX_BLOCKS, _BATCH = 4096, 1 << 20
#: Up to this many words are looked at one by one: arrays cost more for so few.
_MAX_FEW = 64


class WordRoot(NamedTuple):
    """A word of memory outside the heap's blocks."""

    address: int
    region: Region


class RegisterRoot(NamedTuple):
    tid: int
    register: str


class KernelRoot(NamedTuple):
    """What the kernel has of the program: see `kwatch.reach.kernel_words`."""

    place: str


Root = WordRoot | RegisterRoot | KernelRoot


class Step(NamedTuple):
    """A block on a path. `entry`: the offset to which the pointer before points. `pointer`: the
    offset of the word that points to the next block; None at the end. Both are None if the word has
    changed since the scan, `entry` also behind a register."""

    address: int
    size: int
    entry: int | None
    pointer: int | None


class Path(NamedTuple):
    root: Root
    steps: tuple[Step, ...]


class Holder(NamedTuple):
    """A root, or the number of a block in the layout, and what it holds of a set of blocks."""

    root: Root | None
    block: int | None
    blocks: int
    bytes: int


class _Roots:
    """The roots of a scan in one order: lasting memory, then stacks, then registers."""

    def __init__(self, scan: Scan) -> None:
        roots = scan.roots
        self._scan = scan
        on_stack = contains(scan.stacks, roots.addresses)
        self._words = np.concatenate((np.flatnonzero(~on_stack), np.flatnonzero(on_stack)))
        self.codes: Codes = np.concatenate((roots.codes[self._words], roots.register_codes))
        self.targets = targets_of(self.codes)
        self.lasting = len(on_stack) - int(np.count_nonzero(on_stack))

    def root(self, number: int) -> Root:
        if number >= len(self._words):
            tid, name = self._scan.roots.registers[number - len(self._words)]
            return RegisterRoot(tid, name) if tid else KernelRoot(name)
        address = int(self._scan.roots.addresses[self._words[number]])
        return WordRoot(address, _region_of(self._scan.regions, address))

    def first_to(self, block: int, starts_only: bool) -> int:
        """The number of the first root that points to a block."""
        wanted = self.targets == block
        if starts_only:
            wanted &= self.codes & INTERIOR == 0
        return int(np.argmax(wanted))


def why(scan: Scan, memory: TargetMemory, address: int) -> Path | None:
    """The path by which the block with this address is held; None if there is no such block, or if
    it is lost.

    Of the paths that make its class, a shortest one from lasting memory is preferred, then a
    shortest one from a stack or a register. The memory is read to find the words in the blocks.
    """
    block = _block_at(scan, address)
    if block is None or scan.classes[block] > Reach.POSSIBLE:
        return None
    roots = _Roots(scan)
    starts_only = bool(scan.classes[block] == Reach.REACHABLE)
    counts = roots.codes & INTERIOR == 0 if starts_only else np.ones(len(roots.codes), bool)
    everywhere = np.ones(len(scan.layout), bool)
    for last in (roots.lasting, len(roots.codes)):
        seeds = roots.targets[:last][counts[:last]]
        parents = shortest_paths(scan.graph, seeds, everywhere, starts_only)
        blocks = path_to(parents, block)
        if blocks:
            return _path(scan, memory, roots.root(roots.first_to(blocks[0], starts_only)), blocks)
    return None


def who(scan: Scan, blocks: Mask) -> list[Holder]:
    """What holds these blocks from outside, the most bytes first.

    Each block counts once, for its nearest holder: a root or a block that is not one of them. At
    the same distance lasting memory is preferred, then other blocks, then stacks and registers.
    Blocks that nothing holds do not count.
    """
    roots = _Roots(scan)
    count = len(roots.codes)
    nearest = np.full(len(scan.layout), -1)  # the number of a root, or of a block plus `count`
    lasting = np.arange(count) < roots.lasting
    for numbers in (np.flatnonzero(lasting), None, np.flatnonzero(~lasting)):
        if numbers is None:
            targets, found = _held_from_outside(scan, blocks)
            found = found + count
        else:
            targets, found = roots.targets[numbers], numbers
        new = blocks[targets] & (nearest[targets] < 0)
        nearest[targets[new][::-1]] = found[new][::-1]  # the first one counts
    seeds = np.flatnonzero(nearest >= 0)
    first = origins(shortest_paths(scan.graph, seeds, blocks))
    held = np.flatnonzero(first >= 0)
    holders, which = np.unique(nearest[first[held]], return_inverse=True)
    numbers = np.bincount(which, minlength=len(holders))
    sizes = np.bincount(which, scan.layout.sizes[held].astype(float), len(holders))
    result = [
        Holder(roots.root(holder), None, number, int(size))
        if holder < count
        else Holder(None, holder - count, number, int(size))
        for holder, number, size in zip(
            holders.tolist(), numbers.tolist(), sizes.tolist(), strict=True
        )
    ]
    return sorted(result, key=lambda holder: -holder.bytes)


def _held_from_outside(scan: Scan, blocks: Mask) -> tuple[Index, Index]:
    """The blocks among these to which others point, and for each the other."""
    targets, holders = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for found, codes in scan.graph.pointers_of(np.flatnonzero(~blocks)):
        at = targets_of(codes)
        wanted = blocks[at]
        targets.append(at[wanted])
        holders.append(found[wanted])
    return np.concatenate(targets), np.concatenate(holders)


def _block_at(scan: Scan, address: int) -> int | None:
    """The number of the block that holds an address."""
    starts, sizes = scan.layout.starts, scan.layout.sizes
    block = int(starts.searchsorted(np.uint64(address), "right")) - 1
    if block < 0 or address >= int(starts[block]) + max(int(sizes[block]), 1):
        return None
    return block


def _region_of(regions: Sequence[Region], address: int) -> Region:
    return next(region for region in regions if region.start <= address < region.end)


def _path(scan: Scan, memory: TargetMemory, root: Root, blocks: list[int]) -> Path:
    starts, sizes = scan.layout.starts[blocks].tolist(), scan.layout.sizes[blocks].tolist()
    steps = []
    entry: int | None = None
    if isinstance(root, WordRoot):
        (words,) = _contents(memory, [root.address], [WORD])
        _, entry = _pointer(words, starts[0], sizes[0])
    contents = _contents(memory, starts[:-1], sizes[:-1])
    for number, words in enumerate(contents):
        start, after = starts[number], number + 1
        at, next_entry = _pointer(words, starts[after], sizes[after])
        pointer = None if at is None else -start % WORD + at * WORD
        steps.append(Step(start, sizes[number], entry, pointer))
        entry = next_entry
    steps.append(Step(starts[-1], sizes[-1], entry, None))
    return Path(root, tuple(steps))


def _contents(memory: TargetMemory, starts: list[int], sizes: list[int]) -> Iterator[U64]:
    """The whole words of each block. Many blocks are read at once."""
    ranges = [
        (first := -(-start // WORD) * WORD, first + max(start + size - first, 0) // WORD * WORD)
        for start, size in zip(starts, sizes, strict=True)
    ]
    while ranges:
        count = total = 0
        while count < min(len(ranges), _MAX_BLOCKS) and total < _BATCH:
            total += ranges[count][1] - ranges[count][0]
            count += 1
        into = np.zeros(total, np.uint8)
        memory.read(as_ranges(ranges[:count]), into)
        words, at = into.view(np.uint64), 0
        for first, end in ranges[:count]:
            length = (end - first) // WORD
            yield words[at : at + length]
            at += length
        ranges = ranges[count:]


def _pointer(words: U64, start: int, size: int) -> tuple[int | None, int | None]:
    """The number of the first word that points to a block, to its start if any does, and where to;
    None if there is none."""
    size = max(size, 1)
    if len(words) <= _MAX_FEW:
        found = [(at, word - start) for at, word in enumerate(words.tolist())]
        within = [each for each in found if 0 <= each[1] < size]
        return min(within, key=lambda each: each[1] != 0, default=(None, None))
    offsets = words - np.uint64(start)
    inside = np.flatnonzero(offsets < np.uint64(size))
    if len(inside) == 0:
        return None, None
    at = int(inside[np.argmin(offsets[inside] != 0)])
    return at, int(offsets[at])
