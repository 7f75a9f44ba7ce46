# SPDX-License-Identifier: Apache-2.0
"""Whether a quantity grows without an end in sight, from its samples.

The judgement rests on two envelopes: the *floor* is the lowest value from a moment on, the *peak*
the highest up to it. What rises and falls again raises neither. docs/verdicts.md explains it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kwatch.model.growth import GrowthKind
from kwatch.ownership.samples import F64, Samples, Series

#: What was watched for a shorter time, or with fewer samples, is not judged.
MIN_SECONDS = 45.0
MIN_SAMPLES = 8

#: How many parts of the time the ages of blocks are counted in.
AGE_BINS = 24

_WARM_UP = 0.25  # of the time, which may differ from the rest
_MIN_SIGNIFICANCE = 7.0  # standard errors, of the whole growth
_MIN_PART = 2.0  # standard errors, of the growth in each third
_MIN_RATIO = 0.6  # of the growth in the last third to that in one before, if it goes on
_MIN_LATER_RATIO = 0.8  # the same, without the warm-up
_MAX_RATIO = 0.8  # the same, if it levels off
_MIN_RISING = 0.5  # of the mean growth, in the last third, if it has not levelled off
_MAX_STEADY = 0.1  # of the highest value, the growth in the last third
_MIN_TAIL = 0.35  # of the slope in the last eighth to the mean slope
_MIN_OLD = 0.5  # of the growth of a third: what is live from the first and the second third
_MIN_EVEN = 0.7  # of one of these to the other, if they show a leak by themselves
_MIN_YOUNG = 0.85  # the same, of the last third to the larger of these
_MAX_SPIKE = 12  # a rise is a spike if it lasts for less than this part of the time
_SQRT_3 = 3**0.5


#: Returns how much of what is live is from each of AGE_BINS equal parts of a time.
AgesOf = Callable[[int, int], F64]


class Assessment(NamedTuple):
    """`slope_per_s`, with its standard error, is that of the last `seconds`.

    `last_rise`: how much of that growth is in the last third of the time.
    """

    kind: GrowthKind
    slope_per_s: float = 0.0
    error: float = 0.0
    seconds: float = 0.0
    last_rise: float = 0.0

    @property
    def rise(self) -> float:
        """How much the quantity has grown in that time; 0 if that may be chance."""
        return self.slope_per_s * self.seconds if self.slope_per_s > 2 * self.error else 0.0

    @property
    def still_rises(self) -> bool:
        """Whether it has not levelled off: the last third of the time has half the mean growth."""
        return self.rise > 0 and self.last_rise >= self.rise * _MIN_RISING / 3


class Growth:
    """Samples of one quantity."""

    def __init__(self) -> None:
        self._samples = Samples()

    def add(self, time_ns: int, value: float) -> None:
        """Adds a sample, in order of time."""
        self._samples.add(time_ns, value)

    def before_last_ns(self, seconds: float) -> int:
        """The time that is so long before the last sample."""
        last = self._samples.series().seconds[-1:].sum()
        return (self._samples.first_ns or 0) + int((last - seconds) * 1e9)

    def assess(self, ages_of: AgesOf | None = None) -> Assessment:
        series = self._samples.series()
        if ages_of is None or self._samples.first_ns is None:
            return assess(series)
        first_ns = self._samples.first_ns
        since_ns, until_ns = (first_ns + int(at * 1e9) for at in series.seconds[[0, -1]])
        return assess(series, ages_of(since_ns, until_ns))


class _Rise(NamedTuple):
    """How much the envelopes rise in each bin of the last `part` of the time."""

    floor: F64
    peak: F64
    seconds: float
    part: float

    @property
    def thirds(self) -> tuple[float, float, float]:
        """The growth in each third.

        The floor is close to the values where many follow, the peak where many precede.
        """
        third = len(self.floor) // 3
        middle = slice(third, -third)
        return (
            float(self.floor[:third].sum()),
            float(min(self.floor[middle].sum(), self.peak[middle].sum())),
            float(self.peak[-third:].sum()),
        )

    @property
    def error(self) -> float:
        """The standard error of the growth in a third, as if the quantity walked at random."""
        variance = max(_variance(self.floor), _variance(self.peak))
        return float(np.sqrt(variance * (len(self.floor) // 3)))


def assess(series: Series, ages: F64 | None = None) -> Assessment:
    """Judges the samples of one quantity.

    `ages`, for blocks: how much of what is live, in the unit of the samples, was allocated in each
    of AGE_BINS equal parts of their time.
    """
    seconds = series.seconds
    if len(seconds) < MIN_SAMPLES:
        return Assessment(GrowthKind.UNKNOWN)
    whole, later = _rises(series)
    kinds = [(_kind(whole, _MIN_RATIO), whole), (_kind(later, _MIN_LATER_RATIO), later)]
    if ages is not None:
        kinds = [(_checked(each, rise, ages), rise) for each, rise in kinds]
        if _is_hidden(*kinds[1], ages):
            kinds.append((GrowthKind.GROWING, later))
    kind, rise = next((each for each in kinds if each[0] is GrowthKind.GROWING), kinds[0])
    if seconds[-1] - seconds[0] < MIN_SECONDS:
        kind = GrowthKind.UNKNOWN
    slope, error = sum(rise.thirds) / rise.seconds, rise.error * _SQRT_3 / rise.seconds
    return Assessment(kind, slope, error, rise.seconds, rise.thirds[-1])


def _rises(series: Series) -> tuple[_Rise, _Rise]:
    """Over the whole time, and without the warm-up."""
    seconds = series.seconds
    floor = np.minimum.accumulate(series.lows[::-1])[::-1]
    peak = np.maximum.accumulate(_without_spikes(series.highs))

    def rise(part: float) -> _Rise:
        start = seconds[-1] - part * (seconds[-1] - seconds[0])
        bins = min(AGE_BINS, int(len(seconds) * part) // 3 * 3)
        edges = np.linspace(start, seconds[-1], bins + 1)
        floor_rise, peak_rise = (np.diff(np.interp(edges, seconds, e)) for e in (floor, peak))
        return _Rise(floor_rise, peak_rise, float(seconds[-1] - start), part)

    return rise(1.0), rise(1 - _WARM_UP)


def _kind(rise: _Rise, min_ratio: float) -> GrowthKind:
    first, middle, last = rise.thirds
    total, error, before = first + middle + last, rise.error, max(first, middle)
    if total <= 2 * error * _SQRT_3:
        is_steady = last <= _MAX_STEADY * float(rise.peak.sum())
        return GrowthKind.STEADY if is_steady else GrowthKind.UNKNOWN
    if last - _MAX_RATIO * before < -2 * error * np.hypot(1, _MAX_RATIO):
        return GrowthKind.SATURATING
    is_significant = total >= _MIN_SIGNIFICANCE * error * _SQRT_3
    in_each = min(first, middle, last) > _MIN_PART * error
    goes_on = last - min_ratio * before >= error * np.hypot(1, min_ratio)
    if is_significant and in_each and goes_on and _has_tail(rise):
        return GrowthKind.GROWING
    return GrowthKind.UNKNOWN


def _has_tail(rise: _Rise) -> bool:
    """Whether the last eighth rises like the rest."""
    tail = len(rise.peak) // 8
    mean = sum(rise.thirds) / len(rise.peak)
    return tail == 0 or bool(rise.peak[-tail:].sum() >= _MIN_TAIL * mean * tail)


def _checked(kind: GrowthKind, rise: _Rise, ages: F64) -> GrowthKind:
    """UNKNOWN instead of GROWING if few old blocks are left: young ones may follow the load."""
    first, middle, _ = np.split(ages[-round(len(ages) * rise.part) :], 3)
    is_old = min(first.sum(), middle.sum()) >= _MIN_OLD * sum(rise.thirds) / 3
    return GrowthKind.UNKNOWN if kind is GrowthKind.GROWING and not is_old else kind


def _is_hidden(kind: GrowthKind, later: _Rise, ages: F64) -> bool:
    """Whether old blocks show a slow leak although the number of young ones varies by more."""
    first, middle, last = (float(third.sum()) for third in np.split(ages, 3))
    less, more = sorted((first, middle))
    error = float(np.sqrt(_variance(ages[: -len(ages) // 3]) * len(ages) / 3))
    is_even = less - _MIN_EVEN * more >= error * np.hypot(1, _MIN_EVEN)
    is_significant = less + more >= _MIN_SIGNIFICANCE * error * np.sqrt(2) and less > 0
    may_be = less * later.part <= sum(later.thirds) / 3 + 3 * later.error
    may_hide = last >= _MIN_YOUNG * more and kind is not GrowthKind.SATURATING
    return bool(is_even and is_significant and may_be and may_hide)


def _variance(increments: F64) -> float:
    """Of an increment around the local mean."""
    return float(np.mean(np.diff(increments) ** 2)) / 2


def _without_spikes(values: F64) -> F64:
    """The running median: what lasts for less than a small part of the time does not count."""
    half = len(values) // _MAX_SPIKE // 2 + 1
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(values, half, mode="edge"), 2 * half + 1
    )
    return np.asarray(np.median(windows, axis=1))
