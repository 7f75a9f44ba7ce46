# SPDX-License-Identifier: Apache-2.0
"""Sums what holds a set of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.model.reach import Amount
from kwatch.reach.holder_sums import HOLDING, HolderSums, RootSum
from kwatch.reach.holders import Holder, who
from kwatch.reach.live_scan import LiveScan
from kwatch.reach.root_names import ThreadFinder, VariableFinder, root_group

_MAX_NAMED = 2000  # roots: the name of each takes up to a millisecond
_MAX_GROUPS = 100
OTHER_ROOTS = "other variables and memory"


def holder_sums(
    live: LiveScan, addresses: U64, variables: VariableFinder, thread_at: ThreadFinder
) -> HolderSums:
    """What holds the blocks at these addresses, which are sorted, from outside."""
    layout = live.scan.layout
    wanted = np.isin(layout.starts, addresses)
    found = Amount(int(np.count_nonzero(wanted)), int(layout.sizes[wanted].sum()))
    holders = who(live.scan, wanted)
    roots = [holder for holder in holders if holder.root is not None]
    blocks = [
        (int(layout.starts[holder.block]), holder.blocks, holder.bytes)
        for holder in holders
        if holder.block is not None
    ]
    return HolderSums(found, _summed(roots, live, variables, thread_at), np.array(blocks, HOLDING))


def _summed(
    roots: Sequence[Holder], live: LiveScan, variables: VariableFinder, thread_at: ThreadFinder
) -> tuple[RootSum, ...]:
    sums: dict[str, tuple[int, int]] = {}
    for number, holder in enumerate(roots):
        if holder.root is None:
            continue
        name = OTHER_ROOTS
        if number < _MAX_NAMED:
            name = root_group(holder.root, live.threads, variables, thread_at)
        blocks, size = sums.get(name, (0, 0))
        sums[name] = blocks + holder.blocks, size + holder.bytes
    found = sorted((RootSum(name, *both) for name, both in sums.items()), key=lambda s: -s.bytes)
    rest = found[_MAX_GROUPS:]
    if rest:
        blocks, size = sum(one.blocks for one in rest), sum(one.bytes for one in rest)
        found[_MAX_GROUPS:] = [RootSum(OTHER_ROOTS, blocks, size)]
    return tuple(found)
