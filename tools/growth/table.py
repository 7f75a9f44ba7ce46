# SPDX-License-Identifier: Apache-2.0
"""Judges the simulated programs, and counts the judgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np

from growth.kinds import KINDS, Kind, Truth
from growth.lives import Lives
from kwatch.model.growth import GrowthKind
from kwatch.ownership.growth import AGE_BINS, assess
from kwatch.ownership.samples import Samples

#: How long the programs are watched, and the time between two samples, in seconds.
DURATIONS = (("60 s", 60, 1), ("10 min", 600, 1), ("1 h", 3600, 5))


def judge(kind: Kind, seed: int, seconds: int, every: int) -> tuple[GrowthKind, GrowthKind]:
    """The judgement of the number of blocks with their ages, and of the number alone.

    Of several stacks, each is judged with ages, and all together: one that grows is enough.
    """
    rng = np.random.default_rng([crc32(kind.name.encode()), seconds, seed])
    made = kind.make(rng, float(seconds))
    stacks = made if isinstance(made, list) else [made]
    whole = Lives(*(np.concatenate(columns) for columns in zip(*stacks, strict=True)))
    with_ages, alone = _judge(whole, seconds, every)
    if len(stacks) > 1 and any(
        _judge(stack, seconds, every)[0] is GrowthKind.GROWING for stack in stacks
    ):
        with_ages = GrowthKind.GROWING
    return with_ages, alone


def _judge(blocks: Lives, seconds: int, every: int) -> tuple[GrowthKind, GrowthKind]:
    times = np.arange(0.0, seconds + 1, every)
    samples = Samples()
    for time, live in zip(times.tolist(), blocks.live_at(times).tolist(), strict=True):
        samples.add(int(time * 1e9), live)
    series = samples.series()
    within = (series.seconds[0], series.seconds[-1])
    ages = np.histogram(blocks.still_live(seconds), AGE_BINS, within)[0].astype(float)
    return assess(series, ages).kind, assess(series).kind


def table(seeds: int) -> Iterator[str]:
    """The lines of a table in Markdown."""
    durations = " | ".join(name for name, *_ in DURATIONS)
    yield f"| blocks, {seeds} runs | {durations} | 60 s, without ages |"
    yield f"| --- |{' --- |' * (len(DURATIONS) + 1)}"
    for truth in Truth:
        yield f"| **{truth}** |{' |' * (len(DURATIONS) + 1)}"
        for kind in (each for each in KINDS if each.truth is truth):
            pairs = [
                [judge(kind, seed, seconds, every) for seed in range(seeds)]
                for _, seconds, every in DURATIONS
            ]
            cells = [_counts([with_ages for with_ages, _ in column]) for column in pairs]
            alone = _counts([numbers for _, numbers in pairs[0]])
            yield f"| {kind.name} | {' | '.join([*cells, alone])} |"


def _counts(kinds: Sequence[GrowthKind]) -> str:
    counts = Counter(kinds)
    return ", ".join(f"{kind} {counts[kind]}" for kind in GrowthKind if counts[kind])
