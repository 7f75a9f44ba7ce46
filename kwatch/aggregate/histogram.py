# SPDX-License-Identifier: Apache-2.0
"""Log-linear histograms of durations: 16 buckets for each power of two.

A bucket stands for its middle, which is within 3.2 % of every duration in it from 16 ns to
2**44 ns (4.9 hours). What lies outside counts in the first or the last bucket.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64, Index

Counts = npt.NDArray[np.int64]

_BUCKETS_LOG2 = 4
_LOWEST_LOG2 = 4
_HIGHEST_LOG2 = 44

#: The number of buckets.
BUCKETS = (_HIGHEST_LOG2 - _LOWEST_LOG2) << _BUCKETS_LOG2

# The top bits of a float64 are its exponent and then its mantissa: a log-linear scale as it is.
_FLOAT_BIAS = 1023
_FLOAT_SHIFT = 52 - _BUCKETS_LOG2
_FIRST = (_FLOAT_BIAS + _LOWEST_LOG2) << _BUCKETS_LOG2

#: Buckets that are stored together: 4 powers of two, most of what one system call spans.
_LEAF = 64
_LEAVES = BUCKETS // _LEAF


def bucket_of(durations: U64) -> Index:
    """The bucket of each duration in nanoseconds."""
    buckets = durations.astype(np.float64).view(np.int64) >> _FLOAT_SHIFT
    buckets -= _FIRST
    return np.clip(buckets, 0, BUCKETS - 1, out=buckets)


def value_of(bucket: int) -> int:
    """The middle of a bucket in nanoseconds."""
    octave, step = divmod(bucket, 1 << _BUCKETS_LOG2)
    return int(math.ldexp(1 + (step + 0.5) / (1 << _BUCKETS_LOG2), octave + _LOWEST_LOG2))


def percentile(counts: Counts, q: float) -> int:
    """The duration that `q` percent of those counted do not exceed; 0 when there are none."""
    reached = np.cumsum(counts)
    total = int(reached[-1])
    rank = max(math.ceil(total * q / 100), 1)
    return value_of(int(reached.searchsorted(rank))) if total else 0


class HistogramRows:
    """A histogram for each of many rows (small dense ints), stored only where it is not zero."""

    def __init__(self) -> None:
        self._leaves = np.full((0, _LEAVES), -1, np.intp)  # where in _counts a leaf begins
        self._counts = np.zeros(0, np.int64)
        self._free: list[int] = []

    @property
    def nbytes(self) -> int:
        return self._leaves.nbytes + self._counts.nbytes

    def resize(self, rows: int) -> None:
        """Make room for rows below `rows`."""
        more = np.full((rows - len(self._leaves), _LEAVES), -1, np.intp)
        self._leaves = np.concatenate([self._leaves, more])

    def add(self, rows: Index, buckets: Index) -> None:
        """Count one value in a bucket of a row, for each element."""
        leaves = rows * _LEAVES + buckets // _LEAF
        begins = self._leaves.ravel().take(leaves)
        if len(begins) and begins.min() < 0:
            self._allocate(np.unique(leaves[begins < 0]))
            begins = self._leaves.ravel().take(leaves)
        np.add.at(self._counts, begins + buckets % _LEAF, 1)

    def counts(self, row: int) -> Counts:
        """The whole histogram of one row."""
        begins = self._leaves[row]
        counts = np.zeros((_LEAVES, _LEAF), np.int64)
        held = begins >= 0
        counts[held] = self._counts.reshape(-1, _LEAF)[begins[held] // _LEAF]
        return counts.ravel()

    def drop(self, rows: Index) -> None:
        """Empty these rows and reuse what they took."""
        begins = self._leaves[rows]
        freed = begins[begins >= 0]
        self._counts.reshape(-1, _LEAF)[freed // _LEAF] = 0
        self._free.extend(freed.tolist())
        self._leaves[rows] = -1

    def _allocate(self, leaves: Index) -> None:
        missing = len(leaves) - len(self._free)
        if missing > 0:
            held = len(self._counts)
            more = max(missing, held // _LEAF // 2) * _LEAF
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
            self._free.extend(range(held, held + more, _LEAF))
        for leaf in leaves.tolist():
            self._leaves.ravel()[leaf] = self._free.pop()
