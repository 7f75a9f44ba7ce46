# SPDX-License-Identifier: Apache-2.0
"""Compares two runs, thread by thread and call by call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from kwatch.recording.diff.pairing import paired
from kwatch.recording.diff.regions import NONE, Region
from kwatch.recording.diff.run import Places, Run, Thread

_MAX_ERRNO = 4095
_MIN_CALLS, _MIN_RATIO = 10, 2.0  # of latencies that are worth a line


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
    the other run, of the first run and of the second. `regions`: some of them all."""

    only_ours: int
    only_theirs: int
    changed: int
    alone: tuple[Sequence[Thread], Sequence[Thread]]
    region_count: int
    regions: Sequence[Region]
    counts: Sequence[CallCount]
    latencies: Sequence[Latency]

    @property
    def differs(self) -> bool:
        return any((self.only_ours, self.only_theirs, self.changed, *self.alone))


def compare(first: Run, second: Run, most: int | None = 1) -> Comparison:
    """`most`: so many regions, the earliest; None for all."""
    numbers = _common_numbers(first, second)
    pairs, alone, (first.pids, second.pids) = paired(first, second, numbers)
    only_ours = sum(len(thread.rows) for thread in alone[0])
    only_theirs = sum(len(thread.rows) for thread in alone[1])
    changed, count = 0, 0
    regions: list[Region] = []
    for pair in pairs:
        pair.compare(first, second)
        only_ours += int(np.count_nonzero(pair.theirs == NONE))
        only_theirs += int(np.count_nonzero(pair.ours == NONE))
        changed += int(np.count_nonzero(pair.changed))
        bounds = pair.regions()
        count += len(bounds)
        regions += pair.described(bounds, most)
    return Comparison(
        only_ours,
        only_theirs,
        changed,
        alone,
        count,
        sorted(regions, key=lambda region: region.place)[:most],
        list(_counts(first, second)),
        list(_latencies(first, second)),
    )


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
        results = run.results
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
