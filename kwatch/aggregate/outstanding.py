# SPDX-License-Identifier: Apache-2.0
"""Groups live blocks by the stack that allocated them."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.order import Index, stable_argsort
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
    if not chosen.all():
        blocks = blocks.where(chosen)
    return tuple(_stack_stats(blocks, group, now_ns) for group in _largest(blocks, top))


def _largest(blocks: Blocks, top: int) -> list[Index]:
    """The indices of the blocks of each of the `top` stacks, the one with the most bytes first."""
    stacks, stack_of = np.unique(blocks.stacks, return_inverse=True)
    total = np.bincount(stack_of, weights=blocks.sizes, minlength=len(stacks))
    largest = np.lexsort((stacks, -total))[: max(top, 0)]
    rank = np.full(len(stacks), len(largest))
    rank[largest] = np.arange(len(largest))
    ranks = rank[stack_of].astype(np.uint64)
    members = np.flatnonzero(ranks < len(largest))
    members = members[stable_argsort(ranks[members])]
    bounds = ranks[members].searchsorted(np.arange(1, len(largest), dtype=np.uint64))
    return list(np.split(members, bounds)) if len(largest) else []


def _stack_stats(blocks: Blocks, members: Index, now_ns: int) -> StackStats:
    listed = blocks.where(_oldest(blocks, members))
    return StackStats(
        stack=int(listed.stacks[0]),
        bytes=int(blocks.sizes[members].sum()),
        blocks=len(members),
        oldest_s=max(now_ns - int(listed.times[0]), 0) / 1e9,
        addresses=tuple(listed.addresses.tolist()),
        sizes=tuple(listed.sizes.tolist()),
    )


def _oldest(blocks: Blocks, members: Index) -> Index:
    if len(members) > LISTED:
        members = members[blocks.times[members].argpartition(LISTED - 1)[:LISTED]]
    return members[np.lexsort((blocks.addresses[members], blocks.times[members]))]
