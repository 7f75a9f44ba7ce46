# SPDX-License-Identifier: Apache-2.0
"""Groups live blocks by the stack that allocated them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.order import U64, Index, stable_argsort
from kwatch.snapshot import StackStats

#: Blocks listed for each stack.
LISTED = 16


def outstanding(
    blocks: Blocks, now_ns: int, older_ns: int, min_size: int, max_size: int | None, top: int
) -> tuple[StackStats, ...]:
    """The `top` stacks that hold the most bytes, largest first.

    Only blocks at least `older_ns` old and of `min_size` to `max_size` bytes count. A stack lists
    its oldest blocks: a leak is among them, while the youngest may only be in use.
    """
    chosen = blocks.times <= np.uint64(max(now_ns - older_ns, 0))
    if min_size > 0:
        chosen &= blocks.sizes >= min_size
    if max_size is not None:
        chosen &= blocks.sizes <= max_size
    order, bounds = _by_stack(blocks, np.flatnonzero(chosen), max(top, 0))
    if len(order) == 0:
        return ()
    totals = np.add.reduceat(blocks.sizes[order], bounds[:-1]).tolist()
    pairs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), totals, strict=True)
    return tuple(_stack_stats(blocks, order[a:b], total, now_ns) for a, b, total in pairs)


def _by_stack(blocks: Blocks, chosen: Index, top: int) -> tuple[Index, Index]:
    """The indices of the listed stacks' blocks, and where each stack begins among them (and ends).

    The stacks are in the order of their ranks, their blocks in that of their times.
    """
    ranks, count = _ranks(blocks.stacks[chosen], blocks.sizes[chosen], top)
    listed = np.flatnonzero(ranks < count)
    if len(listed) < len(chosen):
        chosen, ranks = chosen[listed], ranks[listed]
    by_time = stable_argsort(blocks.times[chosen])
    order = by_time[stable_argsort(ranks[by_time])]
    return chosen[order], np.append(0, np.cumsum(np.bincount(ranks, minlength=count)))


def _ranks(stacks: U64, sizes: U64, top: int) -> tuple[npt.NDArray[np.uint32], int]:
    """The rank by bytes of the stack of each block, and how many ranks are listed."""
    distinct = np.unique(stacks)
    stack_of = distinct.searchsorted(stacks)
    total = np.bincount(stack_of, weights=sizes, minlength=len(distinct))
    rank = np.empty(len(distinct), np.uint32)
    rank[np.lexsort((distinct, -total))] = np.arange(len(distinct))
    return rank[stack_of], min(top, len(distinct))


def _stack_stats(blocks: Blocks, members: Index, total: int, now_ns: int) -> StackStats:
    listed = members[:LISTED]
    oldest = members[0]
    return StackStats(
        stack=int(blocks.stacks[oldest]),
        bytes=total,
        blocks=len(members),
        oldest_s=max(now_ns - int(blocks.times[oldest]), 0) / 1e9,
        addresses=tuple(blocks.addresses[listed].tolist()),
        sizes=tuple(blocks.sizes[listed].tolist()),
    )
