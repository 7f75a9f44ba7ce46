# SPDX-License-Identifier: Apache-2.0
"""The calls of two threads side by side, and the regions in which they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.recording.diff.alignment import align
from kwatch.recording.diff.rows import differing
from kwatch.recording.diff.run import Places, Run, Thread

CONTEXT = 3
NONE = -1


class Step(NamedTuple):
    """A call of one run or the same call of both; NONE for none. `differs`: what it did."""

    ours: int
    theirs: int
    differs: bool

    @property
    def is_equal(self) -> bool:
        return NONE not in (self.ours, self.theirs) and not self.differs


class Region(NamedTuple):
    """Calls in a row that differ, between calls that do not.

    `place`: the row of the first run where it begins. `number`: how many calls of the first run's
    thread went before. `steps`: the first CONTEXT of each kind; `omitted`: how many more there are.
    """

    place: int
    threads: tuple[Thread, Thread]
    number: int
    before: Sequence[Step]
    steps: Sequence[Step]
    omitted: int
    after: Sequence[Step]


class AlignedThreads:
    """`ours` and `theirs`: rows of both runs, NONE where only one of them has a call. `changed`:
    whether both have it and it differs, after compare()."""

    def __init__(self, threads: tuple[Thread, Thread], numbers: tuple[Places, Places]) -> None:
        """`numbers`: of the rows of both runs; the same for calls that may be the same."""
        self.threads = threads
        rows = threads[0].rows, threads[1].rows
        left, right = [], []
        gaps = []
        for block in align(numbers[0][rows[0]], numbers[1][rows[1]]):
            a, b = rows[0][block.start : block.end], rows[1][block.other : block.stop]
            left.append(a if block.same else np.concatenate((a, np.full(len(b), NONE))))
            right.append(b if block.same else np.concatenate((np.full(len(a), NONE), b)))
            gaps.append(np.full(len(left[-1]), not block.same))
        self.ours: Places = np.concatenate(left)
        self.theirs: Places = np.concatenate(right)
        self._is_gap: npt.NDArray[np.bool_] = np.concatenate(gaps)
        self.changed = np.zeros(len(self.ours), bool)

    @property
    def both(self) -> tuple[Places, Places]:
        """The rows of the calls that both runs have."""
        return self.ours[~self._is_gap], self.theirs[~self._is_gap]

    def compare(self, first: Run, second: Run) -> None:
        self.changed[~self._is_gap] = differing(first, second, *self.both)

    def regions(self) -> list[tuple[int, int]]:
        """Where each one begins and ends."""
        differs = np.concatenate(([False], self.changed | self._is_gap, [False]))
        edges = np.flatnonzero(differs[1:] != differs[:-1])
        return [(start, end) for start, end in edges.reshape(-1, 2).tolist()]

    def described(self, bounds: list[tuple[int, int]], most: int | None) -> Iterator[Region]:
        """The first regions. The calls between two of them are before the second one or after the
        first one, never both."""
        rows = self.threads[0].rows
        counts = np.concatenate(([0], np.cumsum(self.ours >= 0)))
        ends = [0, *(end for _, end in bounds)]
        starts = [*(start for start, _ in bounds[1:]), len(self.ours)]
        for (start, end), earlier, later in list(zip(bounds, ends, starts, strict=False))[:most]:
            shown = list(_first_of_each_kind(self._range(start, end)))
            before = max(start - CONTEXT, earlier + CONTEXT if earlier else 0)
            number = int(counts[start])
            yield Region(
                int(rows[number]) if number < len(rows) else int(rows[-1:].sum()) + 1,
                self.threads,
                number,
                self._range(min(before, start), start),
                shown,
                end - start - len(shown),
                self._range(end, min(end + CONTEXT, later)),
            )

    def _range(self, start: int, end: int) -> list[Step]:
        part = slice(start, end)
        columns = self.ours[part], self.theirs[part], self.changed[part]
        return [Step(*row) for row in zip(*(each.tolist() for each in columns), strict=True)]


def _first_of_each_kind(steps: list[Step]) -> Iterator[Step]:
    """Calls of the first run only, of the second only, and of both."""
    seen: Counter[tuple[bool, bool]] = Counter()
    for step in steps:
        kind = step.ours == NONE, step.theirs == NONE
        seen[kind] += 1
        if seen[kind] <= CONTEXT:
            yield step
