# SPDX-License-Identifier: Apache-2.0
"""Groups live blocks by the stack that allocated them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kwatch.aggregate.blocks import Blocks, Mask
from kwatch.aggregate.distinct import distinct
from kwatch.aggregate.order import U64, Index, stable_argsort
from kwatch.model.snapshot import StackStats

#: Blocks listed for each stack.
MAX_LISTED = 16

#: If a stack has at least so many blocks, the oldest are selected before they are sorted.
_MIN_SELECTED = 1024

#: As `top`: every stack.
ALL_STACKS = 1 << 62

#: Returns for each stack id the id of the stack with which it is counted.
GroupStacks = Callable[[Sequence[int]], Sequence[int]]


class Limits(NamedTuple):
    """Which blocks are listed, and for how many stacks. `since_ns` is on the events' clock.

    `young`: those younger than `older_ns`, instead of the others.
    """

    older_ns: int = 0
    min_size: int = 0
    max_size: int | None = None
    since_ns: int = 0
    top: int = 10
    young: bool = False


def outstanding(
    blocks: Blocks, now_ns: int, limits: Limits, same: GroupStacks | None = None
) -> tuple[StackStats, ...]:
    """The stacks with the most live bytes, largest first.

    A stack lists its oldest blocks: they may be leaked, while the youngest may still be in use.
    """
    chosen = _chosen(blocks, now_ns, limits)
    if not chosen.all():
        blocks = blocks.where(chosen)
    if not len(blocks.stacks):
        return ()
    stacks, numbers = _numbered(blocks.stacks, same)
    count = np.bincount(numbers, minlength=len(stacks))
    # Floating point is exact here: no process has 2**53 bytes.
    size = np.bincount(numbers, weights=blocks.sizes, minlength=len(stacks))
    ranked = np.lexsort((stacks, -count, -size))[: max(limits.top, 0)]
    members, bounds = _oldest(blocks.times, numbers, ranked, count)
    rows = zip(
        stacks[ranked].tolist(),
        size[ranked].astype(np.int64).tolist(),
        count[ranked].tolist(),
        (members[start:end] for start, end in itertools.pairwise(bounds.tolist())),
        strict=True,
    )
    return tuple(_stack_stats(blocks, now_ns, *row) for row in rows)


def amount(blocks: Blocks, now_ns: int, limits: Limits) -> tuple[int, int]:
    """The number of blocks within the limits, and their bytes."""
    chosen = _chosen(blocks, now_ns, limits)
    return int(np.count_nonzero(chosen)), int(blocks.sizes[chosen].sum())


def _chosen(blocks: Blocks, now_ns: int, limits: Limits) -> Mask:
    chosen = blocks.times <= np.uint64(max(now_ns - limits.older_ns, 0))
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


def _oldest(times: U64, numbers: Index, ranked: Index, count: Index) -> tuple[Index, Index]:
    """The MAX_LISTED oldest blocks of each ranked stack by age, and the bounds of each stack.

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
        oldest = np.argpartition(times[order[part]], MAX_LISTED)[:MAX_LISTED]
        keep[part][oldest] = True
    order = order[keep]
    by_time = order[stable_argsort(times[order])]
    order = by_time[stable_argsort(ranks[by_time])]
    counts = np.where(counts >= _MIN_SELECTED, MAX_LISTED, counts)
    return order, np.append(0, np.cumsum(counts))


def _stack_stats(
    blocks: Blocks, now_ns: int, stack: int, size: int, count: int, members: Index
) -> StackStats:
    listed = members[:MAX_LISTED]
    return StackStats(
        stack=stack,
        bytes=size,
        blocks=count,
        oldest_s=max(now_ns - int(blocks.times[members[0]]), 0) / 1e9,
        addresses=tuple(blocks.addresses[listed].tolist()),
        sizes=tuple(blocks.sizes[listed].tolist()),
    )
