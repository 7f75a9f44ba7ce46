# SPDX-License-Identifier: Apache-2.0
"""Log-linear histograms of durations: 16 buckets for each power of two.

The value of a bucket is its middle, within 3.2 % of every duration in it from 16 ns to 2**44 ns
(4.9 hours). Shorter and longer durations count in the first and the last bucket.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64

Counts = npt.NDArray[np.int64]

_BUCKETS_LOG2 = 4
_LOWEST_LOG2 = 4
_HIGHEST_LOG2 = 44

BUCKETS = (_HIGHEST_LOG2 - _LOWEST_LOG2) << _BUCKETS_LOG2

#: Buckets that are stored together: 4 powers of two, which most system calls do not exceed.
RANGE_LOG2 = 6
RANGE = 1 << RANGE_LOG2
RANGES = BUCKETS // RANGE

# The top bits of a float32 are its exponent and mantissa, which is a log-linear scale.
_FLOAT_BIAS = 127
_FLOAT_SHIFT = 23 - _BUCKETS_LOG2
_FIRST = (_FLOAT_BIAS + _LOWEST_LOG2) << _BUCKETS_LOG2


def bucket_of(durations: U64) -> npt.NDArray[np.int32]:
    """The bucket of each duration in nanoseconds."""
    buckets = durations.astype(np.float32).view(np.int32) >> _FLOAT_SHIFT
    buckets -= _FIRST
    return np.clip(buckets, 0, BUCKETS - 1, out=buckets)


def value_of(bucket: int) -> int:
    """The middle of a bucket in nanoseconds."""
    octave, step = divmod(bucket, 1 << _BUCKETS_LOG2)
    return int(math.ldexp(1 + (step + 0.5) / (1 << _BUCKETS_LOG2), octave + _LOWEST_LOG2))


_VALUES = np.array([value_of(bucket) for bucket in range(BUCKETS)])


def percentiles(counts: Counts, q: int) -> npt.NDArray[np.int64]:
    """The duration that `q` percent of all durations do not exceed, for each row of buckets.

    0 where there are none.
    """
    reached = counts.cumsum(axis=1)
    totals = reached[:, -1]
    ranks = np.maximum(-(-totals * q // 100), 1)
    buckets = (reached < ranks[:, np.newaxis]).sum(axis=1)
    return np.where(totals > 0, _VALUES.take(buckets, mode="clip"), 0)
