# SPDX-License-Identifier: Apache-2.0
"""Groups live blocks by the stack that allocated them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kwatch.aggregate.block_classes import BlockClasses, Classes
from kwatch.aggregate.blocks import Blocks, Mask
from kwatch.aggregate.distinct import distinct
from kwatch.aggregate.order import F64, U64, Index, stable_argsort
from kwatch.model.reach import UNKNOWN, Amount, BlockCounts, Reach
from kwatch.model.snapshot import StackStats

#: Blocks listed for each stack.
MAX_LISTED = 16

#: If a stack has at least so many blocks, the first are selected before they are sorted.
_MIN_SELECTED = 1024

_LAST = (1 << 64) - 1
_NOT_LOST = np.uint64(1 << 63)  # above every time: sorts a block behind the lost ones

_SECOND = 1e9  # in ns

#: As `top`: every stack.
ALL_STACKS = 1 << 62

#: Returns for each stack id the id of the stack with which it is counted.
GroupStacks = Callable[[Sequence[int]], Sequence[int]]


class Limits(NamedTuple):
    """Which blocks are listed, and for how many stacks. `since_ns` is on the events' clock.

    `young`: those younger than `older_ns`, instead of the others. `began_ns`: when kwatch began to
    see the allocations.
    """

    older_ns: int = 0
    min_size: int = 0
    max_size: int | None = None
    since_ns: int = 0
    top: int = 10
    young: bool = False
    began_ns: int = 0


def outstanding(
    blocks: Blocks,
    now_ns: int,
    limits: Limits,
    same: GroupStacks | None = None,
    scan: BlockClasses | None = None,
) -> tuple[StackStats, ...]:
    """The stacks that lose the most bytes per second, then those with the most live bytes.

    A stack lists its lost blocks, then its oldest ones: the youngest may still be in use. `scan`:
    the classes of the blocks, if they are known. What is lost counts at any age.
    """
    classes = None if scan is None else scan.of(blocks)
    chosen = _chosen(blocks, now_ns, limits, classes)
    if not chosen.all():
        blocks = blocks.where(chosen)
        classes = None if classes is None else classes[chosen]
    if not len(blocks.stacks):
        return ()
    leaders = None if scan is None or classes is None else scan.leaders_of(blocks, classes)
    groups = _Groups(blocks, classes, leaders, same)
    rates = groups.lost_per_second(limits.began_ns, now_ns)
    ranked = np.lexsort((groups.stacks, -groups.count, -groups.size, -groups.lost, -rates))
    ranked = ranked[: max(limits.top, 0)]
    members, bounds = _first_listed(groups.order_keys, groups.numbers, ranked, groups.count)
    return tuple(
        groups.stats(rank, now_ns, members[start:end])
        for rank, (start, end) in zip(
            ranked.tolist(), itertools.pairwise(bounds.tolist()), strict=True
        )
    )


class _Groups:
    """The blocks by stack, with one number for each stack."""

    def __init__(
        self,
        blocks: Blocks,
        classes: Classes | None,
        leaders: Index | None,
        same: GroupStacks | None,
    ) -> None:
        self._blocks = blocks
        self.stacks, self.numbers = _numbered(blocks.stacks, same)
        self.count = np.bincount(self.numbers, minlength=len(self.stacks))
        self.size = self._sum(self.numbers, blocks.sizes)
        self._oldest = np.full(len(self.stacks), _LAST, np.uint64)
        np.minimum.at(self._oldest, self.numbers, blocks.times)
        self._classes: Index | None = None
        self.lost = np.zeros(len(self.stacks), np.int64)
        self._direct = self._indirect = (self.lost, self.lost)  # blocks, bytes
        self._first_lost = np.full(len(self.stacks), _LAST, np.uint64)
        self.order_keys = blocks.times
        if classes is not None and leaders is not None:
            is_lost = _are_lost(classes)
            is_led = leaders != np.arange(len(leaders))
            is_direct = is_lost & ~is_led
            self.lost = self._sum(self.numbers[is_lost], blocks.sizes[is_lost])
            self._direct = self._amounts(self.numbers[is_direct], blocks.sizes[is_direct])
            self._indirect = self._amounts(self.numbers[leaders[is_led]], blocks.sizes[is_led])
            first, times = self.numbers[is_direct], blocks.times[is_direct]
            np.minimum.at(self._first_lost, first, times)
            self.order_keys = np.where(is_lost, blocks.times, blocks.times | _NOT_LOST)
            both = self.numbers * (UNKNOWN + 1) + classes
            counts = np.bincount(both, minlength=len(self.stacks) * (UNKNOWN + 1))
            self._classes = counts.reshape(-1, UNKNOWN + 1)

    def _sum(self, numbers: Index, values: U64) -> Index:
        """Floating point is exact here: no process has 2**53 bytes."""
        sums = np.bincount(numbers, weights=values, minlength=len(self.stacks))
        return sums.astype(np.int64)

    def _amounts(self, numbers: Index, sizes: U64) -> tuple[Index, Index]:
        """The number of blocks and their bytes, by stack."""
        return np.bincount(numbers, minlength=len(self.stacks)), self._sum(numbers, sizes)

    def lost_per_second(self, began_ns: int, now_ns: int) -> F64:
        """Bytes per second over the time in which each stack was seen to lose.

        What is lost with the blocks of a stack counts with them, whoever allocated it.
        That time begins as long before the first lost block as the blocks are apart on average:
        a single block counts for the whole time since `began_ns`. It is at least one second.
        """
        count, size = self._direct
        since_first = now_ns - np.minimum(self._first_lost, np.uint64(max(now_ns, 0)))
        whole = float(max(now_ns - began_ns, 0))
        times = since_first * (count / np.maximum(count - 1, 1))
        times[count <= 1] = whole
        times = np.clip(times, _SECOND, max(whole, _SECOND))
        rates: F64 = (size + self._indirect[1]) * _SECOND / times
        return rates

    def stats(self, number: int, now_ns: int, members: Index) -> StackStats:
        listed = members[:MAX_LISTED]
        return StackStats(
            stack=int(self.stacks[number]),
            bytes=int(self.size[number]),
            blocks=int(self.count[number]),
            oldest_s=max(now_ns - int(self._oldest[number]), 0) / 1e9,
            addresses=tuple(self._blocks.addresses[listed].tolist()),
            sizes=tuple(self._blocks.sizes[listed].tolist()),
            reach=self._reach(number),
            lost_bytes=int(self.lost[number]),
            direct=_amount_of(self._direct, number),
            indirect=_amount_of(self._indirect, number),
        )

    def _reach(self, number: int) -> BlockCounts | None:
        if self._classes is None:
            return None
        counts = self._classes[number].tolist()
        return BlockCounts(
            definite=counts[Reach.DEFINITE],
            indirect=counts[Reach.INDIRECT],
            possible=counts[Reach.POSSIBLE],
            reachable=counts[Reach.REACHABLE],
            unknown=counts[UNKNOWN],
        )


def _amount_of(columns: tuple[Index, Index], number: int) -> Amount:
    blocks, size = columns
    return Amount(int(blocks[number]), int(size[number]))


def amount(blocks: Blocks, now_ns: int, limits: Limits) -> tuple[int, int]:
    """The number of blocks within the limits, and their bytes."""
    chosen = _chosen(blocks, now_ns, limits)
    return int(np.count_nonzero(chosen)), int(blocks.sizes[chosen].sum())


def largest_stacks(blocks: Blocks, number: int) -> list[int]:
    """The stacks with the most live bytes, in no order."""
    stacks, numbers = distinct(blocks.stacks)
    if len(stacks) > number:
        size = np.bincount(numbers, weights=blocks.sizes, minlength=len(stacks))
        stacks = stacks[np.argpartition(size, -number)[-number:]]
    return [int(stack) for stack in stacks]


def _are_lost(classes: Classes) -> Mask:
    lost: Mask = (classes == Reach.INDIRECT) | (classes == Reach.DEFINITE)
    return lost


def _chosen(blocks: Blocks, now_ns: int, limits: Limits, classes: Classes | None = None) -> Mask:
    chosen = blocks.times <= np.uint64(max(now_ns - limits.older_ns, 0))
    if classes is not None:
        chosen |= _are_lost(classes)
    if limits.young:
        chosen = ~chosen
    if limits.since_ns > 0:
        chosen &= blocks.times >= np.uint64(limits.since_ns)
    if limits.min_size > 0:
        chosen &= blocks.sizes >= limits.min_size
    if limits.max_size is not None:
        chosen &= blocks.sizes <= limits.max_size
    return chosen


def _numbered(ids: U64, same: GroupStacks | None) -> tuple[U64, Index]:
    """The distinct stacks, and for each block the index of its stack among them."""
    found, numbers = distinct(ids)
    if same is None:
        return found, numbers
    stacks, number_of = np.unique(np.array(same(found.tolist()), np.uint64), return_inverse=True)
    return stacks, number_of.take(numbers)


def _first_listed(keys: U64, numbers: Index, ranked: Index, count: Index) -> tuple[Index, Index]:
    """The MAX_LISTED blocks of each ranked stack with the lowest keys, and the bounds of each.

    Only stacks with many blocks are processed one at a time.
    """
    rank_of = np.full(len(count), len(ranked), np.uint32)
    rank_of[ranked] = np.arange(len(ranked), dtype=np.uint32)
    ranks = rank_of.take(numbers)
    listed = np.flatnonzero(ranks < len(ranked))
    order = listed[stable_argsort(ranks[listed])]
    counts = count[ranked]
    ends = np.cumsum(counts)
    keep = np.ones(len(order), bool)
    for rank in np.flatnonzero(counts >= _MIN_SELECTED).tolist():
        part = slice(ends[rank] - counts[rank], ends[rank])
        keep[part] = False
        first = np.argpartition(keys[order[part]], MAX_LISTED)[:MAX_LISTED]
        keep[part][first] = True
    order = order[keep]
    by_key = order[stable_argsort(keys[order])]
    order = by_key[stable_argsort(ranks[by_key])]
    counts = np.where(counts >= _MIN_SELECTED, MAX_LISTED, counts)
    return order, np.append(0, np.cumsum(counts))
