# SPDX-License-Identifier: Apache-2.0
"""Arithmetic with ranges of addresses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kwatch.reach.memory import WORD, Ranges, as_ranges

Mask = npt.NDArray[np.bool_]

_WORD = np.uint64(WORD)


def merged(ranges: Ranges) -> Ranges:
    """The same addresses as sorted ranges that neither overlap nor touch."""
    if len(ranges) == 0:
        return ranges
    ordered = ranges[np.argsort(ranges[:, 0], kind="stable")]
    ends = np.maximum.accumulate(ordered[:, 1])
    first = np.concatenate(([True], ordered[1:, 0] > ends[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.column_stack((ordered[first, 0], ends[last]))


def subtract(start: int, end: int, taken: Ranges) -> Ranges:
    """What is left of one range without others, which are merged."""
    low = int(np.searchsorted(taken[:, 1], np.uint64(start), "right"))
    high = int(np.searchsorted(taken[:, 0], np.uint64(end), "left"))
    edges = np.clip(taken[low:high].ravel(), np.uint64(start), np.uint64(end)).tolist()
    left = zip([start, *edges[1::2]], [*edges[0::2], end], strict=True)
    return as_ranges(pair for pair in left if pair[0] < pair[1])


def contains(ranges: Ranges, addresses: npt.NDArray[np.uint64]) -> Mask:
    """Which addresses lie in one of the ranges, which are merged."""
    edges = np.ascontiguousarray(ranges).ravel()
    inside: Mask = edges.searchsorted(addresses, "right") & 1 == 1
    return inside


def whole_words(ranges: Ranges) -> Ranges:
    """The aligned words that lie in the ranges as a whole."""
    rounded = np.column_stack(((ranges[:, 0] + _WORD - np.uint64(1)), ranges[:, 1]))
    rounded &= ~np.uint64(WORD - 1)
    return rounded[rounded[:, 0] < rounded[:, 1]]


def batches(ranges: Ranges, size: int) -> Iterator[Ranges]:
    """The ranges in their order, cut and grouped: less than 2 * `size` bytes in each group."""
    cut = _cut(ranges, size)
    if len(cut) == 0:
        return
    filled = np.cumsum(cut[:, 1] - cut[:, 0]) - (cut[:, 1] - cut[:, 0])
    groups = filled // np.uint64(size)
    yield from np.split(cut, np.flatnonzero(groups[1:] != groups[:-1]) + 1)


def _cut(ranges: Ranges, size: int) -> Ranges:
    """The ranges, in parts of at most `size` bytes."""
    lengths = ranges[:, 1] - ranges[:, 0]
    counts = (-(-lengths.astype(np.int64) // size)).astype(np.intp)
    if int(counts.max(initial=0)) <= 1:
        return ranges
    part = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(ranges[:, 0], counts) + part.astype(np.uint64) * np.uint64(size)
    ends = np.minimum(starts + np.uint64(size), np.repeat(ranges[:, 1], counts))
    return np.column_stack((starts, ends))
