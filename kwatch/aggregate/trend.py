# SPDX-License-Identifier: Apache-2.0
"""Whether a quantity keeps growing, from samples that are taken now and then."""

from __future__ import annotations

_MIN_SAMPLES = 8
_MAX_SAMPLES = 128


class Trend:
    """Samples at equal distances. If there are many, only every other one is kept."""

    def __init__(self) -> None:
        self._samples: list[int] = []
        self._stride = 1
        self._seen = 0

    def add(self, value: int) -> None:
        """Adds a sample, in order of time."""
        if self._seen % self._stride == 0:
            self._samples.append(value)
        self._seen += 1
        if len(self._samples) == _MAX_SAMPLES:
            del self._samples[1::2]
            self._stride *= 2

    @property
    def growth(self) -> int:
        """By how much the last quarter lies above the whole first half; 0 if it does not.

        What rises and falls, or has reached its level in the first half, does not grow.
        """
        count = len(self._samples)
        if count < _MIN_SAMPLES:
            return 0
        return max(min(self._samples[-count // 4 :]) - max(self._samples[: count // 2]), 0)
