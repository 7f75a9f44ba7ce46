# SPDX-License-Identifier: Apache-2.0
"""Whether a quantity grows without an end in sight."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch.model.growth import GrowthKind
from kwatch.ownership.growth import AGE_BINS, MIN_SECONDS, Growth
from kwatch.ownership.samples import MAX_SLOTS, Samples
from kwatch.ownership.stack_growth import StackGrowth


def judged(value_at, seconds=60, every=1.0):
    growth = Growth()
    for time in np.arange(0, seconds + every / 2, every):
        growth.add(int(time * 1e9), value_at(time))
    return growth.assess()


@pytest.mark.parametrize(
    ("value_at", "kind"),
    [
        (lambda t: 64 * t, GrowthKind.GROWING),
        (lambda t: 64 * t + 300 * (t % 4 > 2), GrowthKind.GROWING),
        (lambda t: 5000 * (t > 3) + 64 * t, GrowthKind.GROWING),
        (lambda t: t * t, GrowthKind.GROWING),
        (lambda t: 5000, GrowthKind.STEADY),
        (lambda t: 5000 * (t > 3), GrowthKind.STEADY),
        (lambda t: 5000 * (t % 10), GrowthKind.STEADY),
        (lambda t: 5000 - 64 * t, GrowthKind.STEADY),
        (lambda t: min(64 * t, 1500), GrowthKind.SATURATING),
        (lambda t: 1000 * np.log1p(t), GrowthKind.SATURATING),
        (lambda t: 1000 * t**0.5, GrowthKind.SATURATING),
        (lambda t: 1000 * (1 - np.exp(-t / 20)), GrowthKind.SATURATING),
        (lambda t: 5000 * (t > 10) + 5000 * (t > 30) + 5000 * (t > 50), GrowthKind.UNKNOWN),
        (lambda t: max(t - 30, 0), GrowthKind.UNKNOWN),
    ],
    ids=[
        *("linear", "noisy", "after a warm-up", "ever faster"),
        *("level", "warm-up", "sawtooth", "falling"),
        *("stops", "logarithm", "square root", "exponential"),
        *("three steps", "began lately"),
    ],
)
def test_kinds(value_at, kind):
    assert judged(value_at).kind is kind


def test_the_slope_with_its_error():
    noise = np.random.default_rng(1)
    found = judged(lambda t: 1000 * t + noise.normal(0, 500), 600)
    assert found.slope_per_s == pytest.approx(1000, abs=2 * found.error)
    assert 0 < found.error < 50
    assert found.seconds == pytest.approx(600, rel=0.02)


def test_a_short_or_rare_look_says_nothing():
    assert judged(lambda t: 64 * t, MIN_SECONDS - 1).kind is GrowthKind.UNKNOWN
    assert judged(lambda t: 64 * t, 60, every=10).kind is GrowthKind.UNKNOWN
    assert Growth().assess().kind is GrowthKind.UNKNOWN


def test_memory_is_bounded_and_extremes_stay():
    samples = Samples()
    for time in range(100_000):
        samples.add(time * 10**9, 7 if time != 50_001 else 99)
    series = samples.series()
    assert MAX_SLOTS // 2 <= len(series.seconds) <= MAX_SLOTS
    assert (series.highs.max(), series.lows.max()) == (99, 7)
    assert series.seconds[-1] == 99_999


# Stacks: `held(time)` gives the times at which the live blocks of a stack were allocated.


def followed(held, seconds=60, size=64, rivals=0):
    """Stack 1 among `rivals` that hold more bytes; returns its judgement."""
    growth = StackGrowth()
    stacks = np.arange(1, 2 + rivals, dtype=np.uint64)
    for time in range(seconds + 1):
        ages = np.zeros((1 + rivals, 3))
        ages[0] = np.histogram(held(time), 3, (0, max(time, 1)))[0]
        ages[1:, 0] = 10**6
        sizes = ages * 1.0
        sizes[0] *= size(time) if callable(size) else size
        growth.add(time * 10**9, stacks, sizes, ages)

    def ages_of(stack, since_ns, until_ns):
        return np.histogram(held(seconds), AGE_BINS, (since_ns / 1e9, until_ns / 1e9))[0] * 1.0

    return next((each for each in growth.assess(ages_of) if each.stack == 1), None)


def test_a_leaking_stack_is_found_among_many_larger_ones():
    found = followed(lambda t: np.arange(0, t, 0.5), rivals=500)
    assert found.kind is GrowthKind.GROWING
    assert found.blocks.slope_per_s == pytest.approx(2, rel=0.1)
    assert found.bytes.slope_per_s == pytest.approx(128, rel=0.1)


def test_young_blocks_follow_the_load():
    """Requests come ever faster, and each lives for two seconds."""
    assert followed(lambda t: np.linspace(max(t - 2, 0), t, int(9 * t))).kind is GrowthKind.UNKNOWN


def test_old_blocks_show_a_leak_that_the_others_hide():
    noise = np.random.default_rng(1)

    def held(time):
        young = noise.uniform(max(time - 1, 0), time, noise.integers(500, 1500))
        return np.append(np.arange(0, time, 1.0), young)

    assert followed(held).kind is GrowthKind.GROWING
    assert followed(lambda t: held(t)[-500:]).kind is not GrowthKind.GROWING


def test_a_buffer_that_grows_stays_one_block():
    assert followed(lambda t: [t], size=lambda t: 4096 * t).kind is GrowthKind.GROWING
    assert followed(lambda t: [t], size=4096).kind is GrowthKind.STEADY


def test_a_cache_that_is_full():
    assert followed(lambda t: np.arange(max(t - 20, 0), t, 0.01)).kind is GrowthKind.SATURATING


def test_stacks_beyond_the_limit_take_no_memory():
    growth = StackGrowth(4)
    for time in range(100):
        stacks = np.arange(time, time + 50, dtype=np.uint64)
        growth.add(time * 10**9, stacks, np.full((50, 3), 9.0), np.full((50, 3), 1.0))
    assert len(growth.assess(lambda *_: np.zeros(AGE_BINS))) == 4
