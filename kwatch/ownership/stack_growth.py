# SPDX-License-Identifier: Apache-2.0
"""Which stacks hold ever more blocks: follows those with the most bytes and the most old blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kwatch.model.growth import GrowthKind
from kwatch.ownership.growth import Assessment, assess
from kwatch.ownership.samples import F64, U64, Samples

MAX_STACKS = 48

#: In a sample, the blocks are counted in so many parts of the time, the oldest first.
AGE_PARTS = 3

_MIN_BLOCKS = 16  # the ages of fewer say nothing, and reading them costs a pass over all blocks

#: Returns how many blocks of a stack are live from each of AGE_BINS equal parts of a time.
AgesOf = Callable[[int, int, int], F64]


class StackAssessment(NamedTuple):
    """`kind` is the judgement of both; a leak of blocks need not show in the bytes."""

    stack: int
    kind: GrowthKind
    bytes: Assessment
    blocks: Assessment


class StackGrowth:
    """Samples of the live blocks by stack. Stacks that are not followed are not judged.

    A stack that is followed later is judged by what it holds from then on. Takes 4 KiB per stack.
    """

    def __init__(self, max_stacks: int = MAX_STACKS) -> None:
        self._max = max_stacks
        self._samples = Samples(2 * max_stacks)  # bytes, then blocks
        self._rows: dict[int, int] = {}

    def since_ns(self, now_ns: int) -> int:
        """When the time of the samples begins; `now_ns` if it begins now."""
        first_ns = self._samples.first_ns
        return now_ns if first_ns is None else first_ns

    def add(self, time_ns: int, stacks: U64, sizes: F64, blocks: F64) -> None:
        """Adds a sample of all stacks with live blocks, in order of time.

        `sizes` and `blocks` have a row for each stack, and AGE_PARTS columns for equal parts of the
        time since `since_ns`.
        """
        totals = np.stack([sizes.sum(axis=1), blocks.sum(axis=1)])
        self._follow(stacks, totals[0], blocks.min(axis=1, initial=np.inf))
        values = np.full((2, self._max), np.nan)
        followed = np.fromiter(self._rows, np.uint64)
        order = followed.argsort()
        rows = np.fromiter(self._rows.values(), np.intp)
        values[:, rows] = 0
        if len(followed):
            at = np.minimum(followed.searchsorted(stacks, sorter=order), len(followed) - 1)
            found = followed[order[at]] == stacks
            values[:, rows[order[at[found]]]] = totals[:, found]
        self._samples.add(time_ns, values.ravel())

    def assess(self, ages_of: AgesOf) -> list[StackAssessment]:
        """Judges the followed stacks. The first are those with the most growth in bytes."""
        judged = [self._assess(stack, row, ages_of) for stack, row in self._rows.items()]
        return sorted(judged, key=lambda each: each.bytes.slope_per_s, reverse=True)

    def growing(self, ages_of: AgesOf) -> list[StackAssessment]:
        """The stacks that grow."""
        return [each for each in self.assess(ages_of) if each.kind is GrowthKind.GROWING]

    def _assess(self, stack: int, row: int, ages_of: AgesOf) -> StackAssessment:
        sizes = assess(self._samples.series(row))
        series = self._samples.series(self._max + row)
        ages = None
        if len(series.seconds) and series.highs[-1] >= _MIN_BLOCKS:
            first_ns = self.since_ns(0)
            since_ns, until_ns = (first_ns + int(at * 1e9) for at in series.seconds[[0, -1]])
            ages = ages_of(stack, since_ns, until_ns)
        blocks = assess(series, ages)
        return StackAssessment(stack, _both(sizes.kind, blocks.kind), sizes, blocks)

    def _follow(self, stacks: U64, sizes: F64, lasting: F64) -> None:
        """Gives the foremost stacks a row: half of them by bytes, half by lasting blocks."""
        half = self._max // 2
        by_size, by_age = _foremost(sizes, half), _foremost(lasting, half)
        wanted = stacks[np.union1d(by_size, by_age)].tolist()
        new = [stack for stack in wanted if stack not in self._rows]
        surplus = len(self._rows) + len(new) - self._max
        if surplus > 0:
            kept = set(wanted)
            unwanted = [stack for stack in self._rows if stack not in kept]
            for stack in unwanted[:surplus]:
                self._samples.forget(self._rows[stack])
                self._samples.forget(self._max + self._rows.pop(stack))
        free = sorted(set(range(self._max)) - set(self._rows.values()))
        self._rows.update(zip(new, free, strict=False))


def _foremost(amounts: F64, count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The indexes of the largest amounts above zero."""
    if len(amounts) > count:
        largest = np.argpartition(-amounts, count)[:count]
    else:
        largest = np.arange(len(amounts))
    return largest[amounts[largest] > 0]


def _both(sizes: GrowthKind, blocks: GrowthKind) -> GrowthKind:
    """A buffer that realloc enlarges grows in bytes, and stays one block."""
    if blocks is GrowthKind.GROWING:
        return blocks
    if sizes is GrowthKind.GROWING:
        return sizes if blocks is GrowthKind.STEADY else GrowthKind.UNKNOWN
    order = (GrowthKind.UNKNOWN, GrowthKind.SATURATING, GrowthKind.STEADY)
    return min(sizes, blocks, key=order.index)
