# SPDX-License-Identifier: Apache-2.0
"""Shortest paths through the pointers of a heap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import Index
from kwatch.reach.classify import targets_of
from kwatch.reach.graph import INTERIOR, PointerGraph
from kwatch.reach.ranges import Mask

#: For each block, the block before it on a shortest path; itself for a seed, -1 if there is none.
Parents = npt.NDArray[np.int32]

#: Up to this many blocks are followed one by one: arrays cost more for so few.
_MAX_NARROW = 128


def shortest_paths(
    graph: PointerGraph, seeds: Index, within: Mask, starts_only: bool = False
) -> Parents:
    """Paths from any of the seeds, which and whose blocks all are in `within`.

    With `starts_only`, interior pointers are not followed.
    """
    parents = np.full(len(graph), -1, np.int32)
    parents[seeds] = seeds
    skipped = int(INTERIOR) if starts_only else 0
    level = np.unique(seeds)
    order = np.empty(len(graph), np.uint32)
    while len(level):
        if len(level) <= _MAX_NARROW:
            level = np.array(_follow(graph, parents, level.tolist(), within, skipped), np.intp)
        else:
            level = _next_level(graph, parents, level, within, (skipped, order))
    return parents


def _follow(
    graph: PointerGraph, parents: Parents, level: list[int], within: Mask, skipped: int
) -> list[int]:
    """Goes on until a level has many blocks, or none; returns it."""
    first, codes, before, allowed = graph.first.data, graph.codes.data, parents.data, within.data
    while level and len(level) <= _MAX_NARROW:
        new = []
        for block in level:
            for at in range(first[block], first[block + 1]):
                code = codes[at]
                target = code >> 1
                if not code & skipped and before[target] < 0 and allowed[target]:
                    before[target] = block
                    new.append(target)
        level = new
    return level


def _next_level(
    graph: PointerGraph,
    parents: Parents,
    level: Index,
    within: Mask,
    rest: tuple[int, npt.NDArray[np.uint32]],
) -> Index:
    skipped, order = rest
    new = [np.empty(0, np.intp)]
    for holders, codes in graph.pointers_of(level):
        targets = targets_of(codes)
        wanted = (parents[targets] < 0) & within[targets]
        if skipped:
            wanted &= codes & INTERIOR == 0
        holders, targets = holders[wanted], targets[wanted]
        numbers = np.arange(len(targets), dtype=np.uint32)
        order[targets] = numbers
        once = order[targets] == numbers
        parents[targets[once]] = holders[once]
        new.append(targets[once])
    return np.concatenate(new)


def path_to(parents: Parents, block: int) -> list[int]:
    """The blocks from a seed to this one; none if no path leads there."""
    if parents[block] < 0:
        return []
    path = [block]
    while parents[path[-1]] != path[-1]:
        path.append(int(parents[path[-1]]))
    return path[::-1]


def origins(parents: Parents) -> Index:
    """The seed at which the path to each block begins, or -1."""
    reached = np.flatnonzero(parents >= 0)
    up = np.arange(len(parents))
    up[reached] = parents[reached]
    while not np.array_equal(above := up[up], up):
        up = above
    up[parents < 0] = -1
    return up
