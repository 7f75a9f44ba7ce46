# SPDX-License-Identifier: Apache-2.0
"""The simulated programs, with the truth about each. All numbers of blocks are for one run."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from growth.lives import (
    Lives,
    Maker,
    Rng,
    at_random,
    collected,
    evicted,
    in_turn,
    in_waves,
    live_for,
    queue,
    requests,
    stay,
)

ALWAYS, NEVER = 0.0, np.inf


class Truth(enum.StrEnum):
    """LIMIT: ends to grow, but not while it is watched: so far, it does what a leak does."""

    LEAK = "leaks"
    HEALTHY = "healthy"
    LIMIT = "grows for longer than kwatch watches"


@dataclass(frozen=True, slots=True)
class Kind:
    """`found_after_s`: a leak that is watched for as long is always found."""

    name: str
    truth: Truth
    make: Maker
    found_after_s: float = ALWAYS


def _some_stay(rng: Rng, blocks: Lives, share: float) -> Lives:
    return Lives(
        blocks.born, np.where(rng.uniform(size=len(blocks.born)) < share, np.inf, blocks.freed)
    )


def _every(seconds: float, pause: float) -> np.ndarray:
    return np.arange(pause / 2, seconds, pause)


def _in_cycles(rng: Rng, s: float) -> Lives:
    born = in_waves(rng, s, 8000, 8)
    return _some_stay(rng, live_for(born, rng.exponential(s / 200, len(born))), 0.3)


def _beside_sawtooth(rng: Rng, s: float) -> Lives:
    period = s / rng.uniform(12, 40)
    return stay(at_random(rng, s, 2000)).with_others(collected(at_random(rng, s, 1500), period))


def _after_warm_up(rng: Rng, s: float) -> Lives:
    start = rng.uniform(0, s * rng.uniform(0.02, 0.2), 5000)
    return stay(np.append(start, at_random(rng, s, 3000)))


def _bursts(rng: Rng, s: float, bursts: int) -> Lives:
    times = at_random(rng, s, bursts)
    return stay(np.repeat(times, rng.integers(1, 20, len(times))))


def _rare(rng: Rng, s: float) -> Lives:
    return stay(_every(s, s / 100)).with_others(requests(rng, s, 20_000, s / 20))


def _compiled_again(rng: Rng, s: float) -> list[Lives]:
    """A JIT compiler moves the code that allocates, so its blocks get new stacks."""
    return in_turn(rng, stay(at_random(rng, s, 3000)), int(rng.integers(4, 9)))


LEAKS = (
    Kind("1 block every 10 s", Truth.LEAK, lambda rng, s: stay(_every(s, 10)), 600),
    Kind("30 blocks, evenly", Truth.LEAK, lambda rng, s: stay(_every(s, s / 30))),
    Kind("300 blocks, evenly", Truth.LEAK, lambda rng, s: stay(_every(s, s / 300))),
    Kind("30 blocks at random", Truth.LEAK, lambda rng, s: stay(at_random(rng, s, 30)), NEVER),
    Kind("100 blocks at random", Truth.LEAK, lambda rng, s: stay(at_random(rng, s, 100)), NEVER),
    Kind("500 blocks at random", Truth.LEAK, lambda rng, s: stay(at_random(rng, s, 500)), NEVER),
    Kind("1,000 blocks at random", Truth.LEAK, lambda rng, s: stay(at_random(rng, s, 1000))),
    Kind("20,000 blocks at random", Truth.LEAK, lambda rng, s: stay(at_random(rng, s, 20_000))),
    Kind(
        "a tenth of 20,000 requests",
        Truth.LEAK,
        lambda rng, s: _some_stay(rng, requests(rng, s, 20_000, s / 100), 0.1),
    ),
    Kind("100 of 20,000 requests", Truth.LEAK, _rare, NEVER),
    Kind("under a load in cycles", Truth.LEAK, _in_cycles),
    Kind("beside collections", Truth.LEAK, _beside_sawtooth),
    Kind("after a warm-up", Truth.LEAK, _after_warm_up),
    Kind("40 steps", Truth.LEAK, lambda rng, s: stay(np.repeat(_every(s, s / 40), 50))),
    Kind("150 bursts", Truth.LEAK, lambda rng, s: _bursts(rng, s, 150), NEVER),
    Kind("1,000 bursts", Truth.LEAK, lambda rng, s: _bursts(rng, s, 1000)),
    Kind("ever faster", Truth.LEAK, lambda rng, s: stay(s * rng.uniform(0, 1, 2000) ** 0.5)),
    Kind(
        "beside a full cache",
        Truth.LEAK,
        lambda rng, s: evicted(at_random(rng, s, 6000), 500).with_others(
            stay(at_random(rng, s, 2000))
        ),
    ),
    Kind("from new stacks in turn", Truth.LEAK, _compiled_again),
)


def _cache(rng: Rng, s: float, tau: float) -> Lives:
    """Random keys of a fixed set: misses become rarer."""
    born = rng.exponential(tau * s, 4000)
    return stay(born[born < s])


def _lru(rng: Rng, s: float, share: float) -> Lives:
    return evicted(at_random(rng, s, 6000), int(6000 * share))


def _logarithm(rng: Rng, s: float) -> Lives:
    scale = rng.uniform(30, 300)
    return stay(s / scale * np.expm1(rng.uniform(0, np.log1p(scale), 3000)))


def _stops(rng: Rng, s: float) -> Lives:
    end = s * rng.uniform(0.3, 0.8)
    return stay(at_random(rng, end, 3000))


def _reloads(rng: Rng, s: float) -> Lives:
    """The new configuration is complete before the old one is freed."""
    starts = np.append(0.0, np.sort(rng.uniform(0, s, rng.integers(1, 6))))
    ends = np.append(starts[1:] + s / 100, np.inf)
    return Lives(np.repeat(starts, 500), np.repeat(ends, 500))


def _batches(rng: Rng, s: float) -> Lives:
    """Jobs that free all at their end, with pauses."""
    period = s / rng.uniform(2.2, 10)
    born = at_random(rng, s, 5000) + rng.uniform(0, period)
    born = born[(born % period < 0.8 * period) & (born < s)]
    return Lives(born, born - born % period + 0.8 * period)


def _generations(rng: Rng, s: float) -> Lives:
    born = at_random(rng, s, 5000)
    small, large = s / rng.uniform(40, 100), s / rng.uniform(2.5, 8)
    return collected(born, np.where(rng.uniform(size=len(born)) < 0.1, large, small))


def _sessions(rng: Rng, s: float) -> Lives:
    sessions = requests(rng, s, 1000, s * rng.uniform(0.05, 0.5))
    return requests(rng, s, 10_000, s / 100).with_others(sessions)


def _load_rises(rng: Rng, s: float) -> Lives:
    born = s * rng.uniform(0, 1, 6000) ** 0.5
    return live_for(born, rng.exponential(s / 50, len(born)))


def _load_in_cycles(rng: Rng, s: float) -> Lives:
    born = in_waves(rng, s, 4000, rng.uniform(1.5, 5))
    return live_for(born, rng.exponential(s / 50, len(born)))


def _table(rng: Rng, s: float) -> Lives:
    """A table that doubles: its blocks are as many as its entries."""
    steps = s * rng.uniform(0.5, 1) * 0.5 ** np.arange(8.0)
    blocks = Lives(steps, np.append(np.inf, steps[:-1]))
    sizes = 2 ** np.arange(10, 2, -1)
    return Lives(*(np.repeat(column, sizes) for column in blocks))


def _pool(rng: Rng, s: float) -> Lives:
    """Keeps as many buffers as were ever in use."""
    times = np.linspace(0, s, 400)
    most = np.maximum.accumulate(requests(rng, s, 5000, s / 50).live_at(times))
    return stay(np.repeat(times, np.diff(most, prepend=0).astype(int)))


def _expiring(rng: Rng, s: float, age: float) -> Lives:
    return live_for(at_random(rng, s, 5000), s * age)


def _service(rng: Rng, s: float) -> list[Lives]:
    """Several caches fill at the same time, each of a stack of its own, beside requests."""
    caches = [_cache(rng, s, rng.uniform(0.05, 0.5)) for _ in range(4)]
    return [*caches, _lru(rng, s, rng.uniform(0.05, 0.5)), requests(rng, s, 5000, s / 50)]


def _requests_in_turn(rng: Rng, s: float) -> list[Lives]:
    """The code of requests and of entries that expire is compiled again and again."""
    blocks = requests(rng, s, 4000, s / 50).with_others(_expiring(rng, s, rng.uniform(0.05, 0.33)))
    return in_turn(rng, blocks, int(rng.integers(4, 9)))


HEALTHY = (
    Kind("cache of random keys", Truth.HEALTHY, lambda r, s: _cache(r, s, r.uniform(0.05, 0.5))),
    Kind("LRU cache", Truth.HEALTHY, lambda r, s: _lru(r, s, r.uniform(0.05, 0.5))),
    Kind(
        "cache with random eviction",
        Truth.HEALTHY,
        lambda r, s: requests(r, s, 6000, s * r.uniform(0.05, 0.33)),
    ),
    Kind("entries that expire", Truth.HEALTHY, lambda r, s: _expiring(r, s, r.uniform(0.05, 0.33))),
    Kind("logarithm", Truth.HEALTHY, _logarithm),
    Kind(
        "square root",
        Truth.HEALTHY,
        lambda r, s: stay(s * r.uniform(0, 1, r.integers(200, 10_000)) ** 2),
    ),
    Kind("warm-up", Truth.HEALTHY, lambda r, s: stay(r.uniform(0, s * r.uniform(0.02, 0.6), 3000))),
    Kind("growth that stops", Truth.HEALTHY, _stops),
    Kind("at the start only", Truth.HEALTHY, lambda r, s: stay(r.uniform(0, s / 100, 1000))),
    Kind("reloads", Truth.HEALTHY, _reloads),
    Kind("batch jobs", Truth.HEALTHY, _batches),
    Kind(
        "collections (sawtooth)",
        Truth.HEALTHY,
        lambda r, s: collected(at_random(r, s, 4000), p := s / r.uniform(2.1, 30), r.uniform(0, p)),
    ),
    Kind("collections of generations", Truth.HEALTHY, _generations),
    Kind(
        "requests in flight",
        Truth.HEALTHY,
        lambda r, s: requests(r, s, 5000, s / r.uniform(20, 500)),
    ),
    Kind("few requests", Truth.HEALTHY, lambda r, s: requests(r, s, 30, s / 50)),
    Kind("sessions and requests", Truth.HEALTHY, _sessions),
    Kind(
        "queue around a level",
        Truth.HEALTHY,
        lambda r, s: requests(r, s, 4000, s / 50).with_others(queue(r, np.linspace(0, s, 3000))),
    ),
    Kind(
        "queue that walks at random", Truth.HEALTHY, lambda r, s: queue(r, np.linspace(0, s, 4000))
    ),
    Kind("load that rises", Truth.HEALTHY, _load_rises),
    Kind("load in cycles", Truth.HEALTHY, _load_in_cycles),
    Kind("table that doubles", Truth.HEALTHY, _table),
    Kind("pool of buffers", Truth.HEALTHY, _pool),
    Kind("several stacks of caches", Truth.HEALTHY, _service),
    Kind("requests from new stacks in turn", Truth.HEALTHY, _requests_in_turn),
)

LIMITS = (
    Kind("cache of random keys, slow", Truth.LIMIT, lambda r, s: _cache(r, s, r.uniform(0.7, 1.5))),
    Kind("LRU cache, large", Truth.LIMIT, lambda r, s: _lru(r, s, r.uniform(0.85, 1.3))),
    Kind(
        "entries that expire late", Truth.LIMIT, lambda r, s: _expiring(r, s, r.uniform(0.7, 1.2))
    ),
    Kind("one long batch job", Truth.LIMIT, lambda r, s: stay(at_random(r, s, 3000))),
)

KINDS = (*LEAKS, *HEALTHY, *LIMITS)
