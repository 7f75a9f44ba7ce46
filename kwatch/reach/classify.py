# SPDX-License-Identifier: Apache-2.0
"""Sorts blocks into the classes of memcheck's leak check, by what points to them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import Index
from kwatch.model.reach import Reach
from kwatch.reach.graph import INTERIOR, Codes, Marks, PointerGraph, Search
from kwatch.reach.ranges import Mask

Classes = npt.NDArray[np.uint8]

_PIECE = 1 << 16  # pointers that are looked at at once


def classify(graph: PointerGraph, roots: Codes) -> Classes:
    """The class of each block. `roots` are the pointers outside the blocks."""
    reached = np.zeros(len(graph), np.uint8)
    _mark(Search(graph, reached, starts_only=True), roots[roots & INTERIOR == 0])
    classes = np.where(reached, np.uint8(Reach.REACHABLE), np.uint8(Reach.POSSIBLE))
    search = Search(graph, reached)
    _mark(search, roots[roots & INTERIOR != 0])
    for start in range(0, len(graph.codes), _PIECE):
        search.mark(_interior_targets(graph, start, classes))
    lost = reached == 0
    if lost.any():
        classes[lost] = Reach.INDIRECT
        classes[_leaders(graph, lost)] = Reach.DEFINITE
    return classes


def reached_from(graph: PointerGraph, roots: Codes) -> Mask:
    """The blocks that these pointers reach, by whatever pointers."""
    marks = np.zeros(len(graph), np.uint8)
    _mark(Search(graph, marks), roots)
    reached: Mask = marks != 0
    return reached


def targets_of(codes: Codes) -> Index:
    return (codes >> np.uint32(1)).astype(np.intp)


def _mark(search: Search, codes: Codes) -> None:
    for start in range(0, len(codes), _PIECE):
        search.mark(targets_of(codes[start : start + _PIECE]))


def _interior_targets(graph: PointerGraph, start: int, classes: Classes) -> Index:
    """What the interior pointers in one piece point to, if reachable blocks hold them."""
    codes = graph.codes[start : start + _PIECE]
    at = np.flatnonzero(codes & INTERIOR)
    holders = graph.first.searchsorted(start + at, "right") - 1
    return targets_of(codes[at[classes[holders] == Reach.REACHABLE]])


def _leaders(graph: PointerGraph, lost: Mask) -> Index:
    """One block of each group of lost blocks that no lost block outside the group points to.

    That is a block that none points to, or the lowest of those that reach each other.
    """
    pointed = np.zeros(len(graph), bool)
    for start in range(0, len(graph.codes), _PIECE):  # what others point to is not lost
        pointed[targets_of(graph.codes[start : start + _PIECE])] = True
    tops = np.flatnonzero(lost & ~pointed)
    marks = (~lost).astype(np.uint8)
    Search(graph, marks).mark(tops)
    rest = np.flatnonzero(marks == 0)
    return np.concatenate((tops, _cycles(graph, marks, rest))) if len(rest) else tops


def _cycles(graph: PointerGraph, marks: Marks, rest: Index) -> Index:
    """The leaders among blocks that are all in cycles or reached from them; `rest` ascends.

    A block that none before it reaches may lead. If none behind it reaches it either, it does.
    """
    marks_again = marks.copy()
    candidates = _unreached(graph, marks, rest.tolist())
    return np.array(_unreached(graph, marks_again, reversed(candidates)), np.intp)


def _unreached(graph: PointerGraph, marks: Marks, blocks: Iterable[int]) -> list[int]:
    """The blocks that have no mark when their turn comes. Marks what each of them reaches."""
    search = Search(graph, marks)
    found = []
    marked = marks.data  # faster for single blocks
    for block in blocks:
        if not marked[block]:
            search.mark_from(block)
            found.append(block)
    return found
