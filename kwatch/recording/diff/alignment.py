# SPDX-License-Identifier: Apache-2.0
"""Aligns two sequences of numbers in linear time: where they differ, a bounded search follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: How far behind a difference both sequences are searched for the next two numbers in a row that
#: agree: the second and third one only if there are none.
WINDOWS = (256, 4096, 65536)

_END = -1

Keys = npt.NDArray[np.int64]


class Block(NamedTuple):
    """`first[start:end]` and `second[other:stop]`: the same numbers, or those of only one side."""

    same: bool
    start: int
    end: int
    other: int
    stop: int


def align(first: Keys, second: Keys) -> Iterator[Block]:
    """Blocks that cover both sequences in order; never two alike in a row."""
    gap: Block | None = None
    at = other = 0
    while at < len(first) or other < len(second):
        run = _equal_run(first, second, at, other)
        if run:
            if gap is not None:
                yield gap
                gap = None
            yield Block(True, at, at + run, other, other + run)
            at, other = at + run, other + run
            continue
        skip, jump = _next_agreement(first, second, at, other)
        start, begin = (at, other) if gap is None else (gap.start, gap.other)
        gap = Block(False, start, at + skip, begin, other + jump)
        at, other = at + skip, other + jump
    if gap is not None:
        yield gap


def _equal_run(first: Keys, second: Keys, at: int, other: int) -> int:
    """How many numbers agree from here on."""
    length = min(len(first) - at, len(second) - other)
    done, step = 0, 64
    while done < length:
        step = min(step, length - done)
        differs = first[at + done : at + done + step] != second[other + done : other + done + step]
        place = int(differs.argmax())
        if differs[place]:
            return done + place
        done, step = done + step, step * 2
    return length


def _next_agreement(first: Keys, second: Keys, at: int, other: int) -> tuple[int, int]:
    """How many numbers to leave out on both sides; all of the largest window if nothing agrees."""
    found, jump = None, 0
    for window in WINDOWS:
        ours, theirs = first[at : at + window].tolist(), second[other : other + window].tolist()
        if ours[1:2] == theirs[1:2] != []:
            found, jump = 1, 1
        places: dict[tuple[int, int], int] = {}
        for place, pair in enumerate(_pairs(theirs, other + window >= len(second))):
            places.setdefault(pair, place)
        for skip, pair in enumerate(_pairs(ours, at + window >= len(first))):
            if found is not None and skip >= found + jump:
                break
            place = places.get(pair, window)
            if place < window and (found is None or skip + place < found + jump):
                found, jump = skip, place
        if found is not None:
            return found, jump
        if at + window >= len(first) and other + window >= len(second):
            break
    return len(ours), len(theirs)


def _pairs(numbers: list[int], is_end: bool) -> Iterable[tuple[int, int]]:
    """Each number and the next one; the last of a sequence has _END."""
    return zip(numbers, [*numbers[1:], *[_END] * is_end], strict=False)
