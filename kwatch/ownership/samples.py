# SPDX-License-Identifier: Apache-2.0
"""Samples of quantities over time, in bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]

MAX_SLOTS = 128
_FIRST_WIDTH_NS = 10_000_000


class Series(NamedTuple):
    """One quantity: the seconds since the first sample, and the extremes around each of them."""

    seconds: F64
    lows: F64
    highs: F64


class Samples:
    """The lowest and the highest value of each quantity in slots of equal time.

    When the slots are used up, neighbors are merged, so that the extremes stay: all samples are
    then spread evenly over 64 to 128 slots. Takes 2 KiB for each quantity.
    """

    def __init__(self, quantities: int = 1) -> None:
        self._first_ns: int | None = None
        self._width_ns = _FIRST_WIDTH_NS
        self._times = np.full(MAX_SLOTS, np.nan)
        self._lows = np.full((quantities, MAX_SLOTS), np.nan)
        self._highs = np.full((quantities, MAX_SLOTS), np.nan)

    def add(self, time_ns: int, values: npt.ArrayLike) -> None:
        """Adds a sample of all quantities, in order of time; NaN is an unknown value."""
        if self._first_ns is None:
            self._first_ns = time_ns
        passed = max(time_ns - self._first_ns, 0)
        while passed >= MAX_SLOTS * self._width_ns:
            self._merge()
        slot = passed // self._width_ns
        self._times[slot] = passed / 1e9
        self._lows[:, slot] = np.fmin(self._lows[:, slot], values)
        self._highs[:, slot] = np.fmax(self._highs[:, slot], values)

    def forget(self, quantity: int) -> None:
        """Makes all past values of a quantity unknown."""
        self._lows[quantity] = self._highs[quantity] = np.nan

    def series(self, quantity: int = 0) -> Series:
        """The known samples of a quantity."""
        known = ~np.isnan(self._lows[quantity])
        return Series(self._times[known], self._lows[quantity, known], self._highs[quantity, known])

    @property
    def first_ns(self) -> int | None:
        """The time of the first sample."""
        return self._first_ns

    def _merge(self) -> None:
        """Makes each slot twice as long."""
        half = MAX_SLOTS // 2
        self._times[:half] = np.fmax(self._times[0::2], self._times[1::2])
        self._lows[:, :half] = np.fmin(self._lows[:, 0::2], self._lows[:, 1::2])
        self._highs[:, :half] = np.fmax(self._highs[:, 0::2], self._highs[:, 1::2])
        for column in (self._times, self._lows, self._highs):
            column[..., half:] = np.nan
        self._width_ns *= 2
