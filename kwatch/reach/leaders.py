# SPDX-License-Identifier: Apache-2.0
"""Which definitely lost block leads to each indirectly lost one."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.order import Index
from kwatch.model.reach import Reach
from kwatch.reach.classify import Classes, targets_of
from kwatch.reach.graph import PointerGraph
from kwatch.reach.ranges import Mask

_MIN_WIDE = 128  # blocks that are followed at once: arrays cost more for fewer
_MAX_NARROW = 1 << 19  # blocks that are followed one by one: one or two seconds


def leaders(graph: PointerGraph, classes: Classes) -> Index:
    """The number of the block that leads to each block: DEFINITE for INDIRECT ones, else itself.

    A block that several lead to belongs to one of them. In long chains, blocks after the first half
    a million are left with themselves.
    """
    lead = np.arange(len(graph))
    waits = classes == Reach.INDIRECT
    blocks = np.flatnonzero(classes == Reach.DEFINITE)
    left = _MAX_NARROW
    while len(blocks) and waits.any() and left > 0:
        if len(blocks) >= _MIN_WIDE:
            blocks = _follow_all(graph, lead, waits, blocks)
        else:
            blocks, left = _follow_each(graph, lead, waits, blocks, left)
    return lead


def _follow_all(graph: PointerGraph, lead: Index, waits: Mask, blocks: Index) -> Index:
    """Gives what these blocks point to their leaders; returns it, each once."""
    found = [np.empty(0, np.intp)]
    for holders, codes in graph.pointers_of(blocks):
        targets = targets_of(codes)
        new = waits[targets]
        targets, holders = targets[new], holders[new]
        lead[targets] = lead[holders]
        waits[targets] = False
        targets.sort()
        found.append(targets[np.append(True, targets[1:] != targets[:-1])[: len(targets)]])
    return np.concatenate(found)


def _follow_each(
    graph: PointerGraph, lead: Index, waits: Mask, blocks: Index, left: int
) -> tuple[Index, int]:
    """The same, one by one, until many wait, or `left` blocks were followed."""
    first, codes, leads, waiting = graph.first.data, graph.codes.data, lead.data, waits.data
    open_blocks = blocks.tolist()
    while open_blocks and len(open_blocks) < 2 * _MIN_WIDE and left > 0:
        block = open_blocks.pop()
        left -= 1
        for at in range(first[block], first[block + 1]):
            target = codes[at] >> 1
            if waiting[target]:
                waiting[target] = False
                leads[target] = leads[block]
                open_blocks.append(target)
    return np.array(open_blocks, np.intp), left
