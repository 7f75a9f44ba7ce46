# SPDX-License-Identifier: Apache-2.0
"""Simulated blocks: when each is allocated and freed. Other files combine these parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

#: Returns the blocks of a program that is watched for so many seconds, or those of each stack.
Maker = Callable[[Rng, float], "Lives | list[Lives]"]


class Lives(NamedTuple):
    """Seconds since the attach; `freed` is infinite for blocks that stay."""

    born: F64
    freed: F64

    def with_others(self, others: Lives) -> Lives:
        return Lives(*(np.concatenate(both) for both in zip(self, others, strict=True)))

    def live_at(self, times: F64) -> F64:
        """How many blocks are live at each time."""
        return (
            np.searchsorted(np.sort(self.born), times, "right")
            - np.searchsorted(np.sort(self.freed), times, "right")
        ).astype(np.float64)

    def still_live(self, time: float) -> F64:
        """When the blocks that are live at `time` were allocated."""
        return self.born[(self.born <= time) & (self.freed > time)]


def at_random(rng: Rng, seconds: float, count: float) -> F64:
    """The times of a Poisson process that has `count` events on average."""
    return np.sort(rng.uniform(0, seconds, rng.poisson(count)))


def in_waves(rng: Rng, seconds: float, count: float, waves: float) -> F64:
    """The same for a rate that swings by half."""
    times = at_random(rng, seconds, 1.5 * count)
    phase = rng.uniform(0, 2 * np.pi)
    rate = 1 + 0.5 * np.sin(2 * np.pi * waves * times / seconds + phase)
    return times[rng.uniform(0, 1.5, len(times)) < rate]


def stay(born: F64) -> Lives:
    return Lives(born, np.full(len(born), np.inf))


def live_for(born: F64, ages: F64 | float) -> Lives:
    return Lives(born, born + ages)


def requests(rng: Rng, seconds: float, count: float, mean_age: float) -> Lives:
    born = at_random(rng, seconds, count)
    return live_for(born, rng.exponential(mean_age, len(born)))


def collected(born: F64, periods: F64 | float, phase: float = 0.0) -> Lives:
    """Everything is freed at the end of each period."""
    return Lives(born, (np.floor((born + phase) / periods) + 1) * periods - phase)


def evicted(born: F64, size: int) -> Lives:
    """Each new block beyond `size` ends the oldest."""
    blocks = stay(born)
    blocks.freed[: max(len(born) - size, 0)] = born[size:]
    return blocks


def in_turn(rng: Rng, blocks: Lives, stacks: int) -> list[Lives]:
    """The blocks of one stack after the other, each for some time."""
    ends = np.sort(rng.choice(blocks.born, stacks - 1, replace=False))
    stack = np.searchsorted(ends, blocks.born)
    return [Lives(*(column[stack == each] for column in blocks)) for each in range(stacks)]


def queue(rng: Rng, times: F64) -> Lives:
    """At each time a block comes or goes by chance; the oldest goes first, or the newest."""
    born: list[float] = []
    freed: list[float] = []
    waiting: list[int] = []
    end = -int(rng.integers(2))
    for time, comes in zip(times.tolist(), rng.uniform(size=len(times)) < 0.5, strict=True):
        if comes or not waiting:
            waiting.append(len(born))
            born.append(time)
            freed.append(np.inf)
        else:
            freed[waiting.pop(end)] = time
    return Lives(np.array(born), np.array(freed))
