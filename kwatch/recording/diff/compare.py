# SPDX-License-Identifier: Apache-2.0
"""Compares two runs, thread by thread and call by call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from kwatch.recording.diff.alignment import align
from kwatch.recording.diff.rows import differing
from kwatch.recording.diff.run import Places, Run, Thread

CONTEXT = 3
_MAX_ERRNO = 4095
_MIN_CALLS, _MIN_RATIO = 10, 2.0  # of latencies that are worth a line
_NONE = -1


class Step(NamedTuple):
    """A call of one run or the same call of both; -1 for none. `differs`: what it did."""

    ours: int
    theirs: int
    differs: bool

    @property
    def is_equal(self) -> bool:
        return _NONE not in (self.ours, self.theirs) and not self.differs


class Divergence(NamedTuple):
    """`number`: how many calls of the first run's thread went before. `after` follows `steps`."""

    threads: tuple[Thread, Thread]
    number: int
    before: Sequence[Step]
    steps: Sequence[Step]
    after: Sequence[Step]


class CallCount(NamedTuple):
    name: str
    calls: tuple[int, int]
    errors: tuple[int, int]


class Latency(NamedTuple):
    """Nanoseconds, of both runs."""

    name: str
    p50: tuple[int, int]
    p99: tuple[int, int]


class Comparison(NamedTuple):
    """`only_ours`, `only_theirs`, `changed`: numbers of calls. `alone`: threads without one of
    the other run, of the first run and of the second."""

    only_ours: int
    only_theirs: int
    changed: int
    alone: tuple[Sequence[Thread], Sequence[Thread]]
    first: Divergence | None
    counts: Sequence[CallCount]
    latencies: Sequence[Latency]

    @property
    def differs(self) -> bool:
        return any((self.only_ours, self.only_theirs, self.changed, *self.alone))


def compare(first: Run, second: Run) -> Comparison:
    numbers = _common_numbers(first, second)
    pairs, *alone = _paired(first.threads, second.threads)
    only_ours = sum(len(thread.rows) for thread in alone[0])
    only_theirs = sum(len(thread.rows) for thread in alone[1])
    changed, earliest, found = 0, len(first) + 1, None
    for ours, theirs in pairs:
        steps = _Steps(first, second, ours, theirs, numbers)
        only_ours += int(np.count_nonzero(steps.theirs == _NONE))
        only_theirs += int(np.count_nonzero(steps.ours == _NONE))
        changed += int(np.count_nonzero(steps.changed))
        divergence = steps.first()
        if divergence is not None and steps.place < earliest:
            earliest, found = steps.place, divergence
    return Comparison(
        only_ours,
        only_theirs,
        changed,
        (alone[0], alone[1]),
        found,
        list(_counts(first, second)),
        list(_latencies(first, second)),
    )


class _Steps:
    """The calls of two threads, aligned."""

    def __init__(
        self,
        first: Run,
        second: Run,
        ours: Thread,
        theirs: Thread,
        numbers: tuple[Places, Places],
    ) -> None:
        self._threads = ours, theirs
        left, right = [], []
        gaps = []
        for block in align(numbers[0][ours.rows], numbers[1][theirs.rows]):
            a, b = ours.rows[block.start : block.end], theirs.rows[block.other : block.stop]
            left.append(a if block.same else np.concatenate((a, np.full(len(b), _NONE))))
            right.append(b if block.same else np.concatenate((np.full(len(a), _NONE), b)))
            gaps.append(np.full(len(left[-1]), not block.same))
        self.ours: Places = np.concatenate(left)
        self.theirs: Places = np.concatenate(right)
        self._is_gap: npt.NDArray[np.bool_] = np.concatenate(gaps)
        both = ~self._is_gap
        self.changed = np.zeros(len(self.ours), bool)
        self.changed[both] = differing(first, second, self.ours[both], self.theirs[both])
        #: the first call of the first run that is not as in the second
        self.place = 0

    def first(self) -> Divergence | None:
        """The first difference, if there is one. Sets `place`."""
        differs = self.changed | self._is_gap
        if not differs.any():
            return None
        at = int(differs.argmax())
        end = at + 1
        while self._is_gap[at] and end < len(differs) and self._is_gap[end]:
            end += 1
        earlier = self.ours[:at][self.ours[:at] >= 0]
        later = self.ours[at:][self.ours[at:] >= 0]
        self.place = int(later[0]) if len(later) else int(earlier[-1]) + 1
        steps = self._range(at, end)
        shown = [step for step in steps if step.theirs == _NONE][:CONTEXT]
        shown += [step for step in steps if step.ours == _NONE][:CONTEXT]
        shown += [step for step in steps if step.differs]
        is_whole = len(shown) == len(steps)
        return Divergence(
            self._threads,
            len(earlier),
            self._range(max(at - CONTEXT, 0), at),
            shown,
            self._range(end, end + CONTEXT) if is_whole else [],
        )

    def _range(self, start: int, end: int) -> list[Step]:
        part = slice(start, end)
        columns = self.ours[part], self.theirs[part], self.changed[part]
        return [Step(*row) for row in zip(*(each.tolist() for each in columns), strict=True)]


def _paired(
    first: Sequence[Thread], second: Sequence[Thread]
) -> tuple[list[tuple[Thread, Thread]], list[Thread], list[Thread]]:
    """Threads with the same name in the order of their creation, and those that are left."""
    waiting: dict[str, list[Thread]] = defaultdict(list)
    for thread in reversed(second):
        waiting[thread.comm].append(thread)
    pairs, alone = [], []
    for thread in first:
        if waiting[thread.comm]:
            pairs.append((thread, waiting[thread.comm].pop()))
        else:
            alone.append(thread)
    return pairs, alone, [thread for left in waiting.values() for thread in reversed(left)]


def _common_numbers(first: Run, second: Run) -> tuple[Places, Places]:
    """The same number in both runs for the same name and path."""
    known: dict[str, int] = {}
    found = []
    for run in (first, second):
        table = np.array([known.setdefault(text, len(known)) for text in run.calls], np.int64)
        found.append(table[run.numbers])
    return found[0], found[1]


def _by_name(run: Run) -> tuple[list[str], Places]:
    names = run.column("name")
    return names.dictionary.to_pylist(), names.indices.to_numpy().astype(np.int64)


def _counts(first: Run, second: Run) -> Iterator[CallCount]:
    """Those that differ, the largest difference first."""
    sums = []
    for run in (first, second):
        names, numbers = _by_name(run)
        results = pc.fill_null(run.column("ret"), 0).to_numpy()
        failed = (results < 0) & (results >= -_MAX_ERRNO)
        calls = np.bincount(numbers, minlength=len(names)).tolist()
        errors = np.bincount(numbers[failed], minlength=len(names)).tolist()
        sums.append(dict(zip(names, zip(calls, errors, strict=True), strict=True)))
    found = []
    for name in sorted({*sums[0], *sums[1]}):
        (a, b), (c, d) = (each.get(name, (0, 0)) for each in sums)
        if (a, b) != (c, d):
            found.append(CallCount(name, (a, c), (b, d)))
    yield from sorted(found, key=lambda each: -abs(each.calls[0] - each.calls[1]))


def _latencies(first: Run, second: Run) -> Iterator[Latency]:
    """Those that differ by a factor, the largest one first."""
    found = []
    times = [dict(_times(run)) for run in (first, second)]
    for name in times[0].keys() & times[1].keys():
        a, b = (np.percentile(each[name], (50, 99)).astype(int).tolist() for each in times)
        ratio = max(max(x, y) / max(min(x, y), 1) for x, y in zip(a, b, strict=True))
        if ratio >= _MIN_RATIO:
            found.append((ratio, Latency(name, (a[0], b[0]), (a[1], b[1]))))
    yield from (latency for _, latency in sorted(found, key=lambda each: (-each[0], each[1].name)))


def _times(run: Run) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    names, numbers = _by_name(run)
    times = run.column("duration_ns")
    returned = np.flatnonzero(times.is_valid().to_numpy(zero_copy_only=False))
    values = pc.fill_null(times, 0).to_numpy()[returned]
    order = np.argsort(numbers[returned], kind="stable")
    bounds = np.searchsorted(numbers[returned][order], np.arange(len(names) + 1))
    for number, name in enumerate(names):
        of_name = values[order[bounds[number] : bounds[number + 1]]]
        if len(of_name) >= _MIN_CALLS:
            yield name, of_name
