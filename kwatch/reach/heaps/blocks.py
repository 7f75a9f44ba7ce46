# SPDX-License-Identifier: Apache-2.0
"""Arrays of blocks, made with little memory, and the first words of their contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.chain import Chain
from kwatch.reach.heaps.layouts import HEADER, WORD
from kwatch.reach.heaps.spans import Reader

Bools = npt.NDArray[np.bool_]

#: Which blocks to take, from their addresses and the first two words of each.
Choice = Callable[[U64, U64, U64], Bools]

_SLICE = 1 << 18
_WINDOW = 4 << 20


def blocks_in_use(
    chains: Sequence[Chain], mapped: Sequence[tuple[int, int, int, int]]
) -> tuple[U64, U64]:
    """The mapped blocks, and those that chains show as in use: sorted addresses, usable sizes.

    Drops the lists of the chains, so that not all is in memory twice.
    """
    count = sum(int(np.count_nonzero(chain.in_use)) for chain in chains) + len(mapped)
    starts, sizes = np.empty(count, np.uint64), np.empty(count, np.uint64)
    filled = 0
    parts: list[Chain | tuple[int, int, int, int]] = [*chains, *mapped]
    for part in sorted(parts, key=lambda part: part[0] if isinstance(part, tuple) else part.start):
        if isinstance(part, tuple):
            starts[filled], sizes[filled] = part[:2]
            filled += 1
            continue
        for first in range(0, len(part.units), _SLICE):
            addresses, lengths = part.in_use_between(first, first + _SLICE)
            end = filled + len(addresses)
            np.add(addresses, np.uint64(HEADER), out=starts[filled:end])
            np.subtract(lengths, np.uint64(WORD), out=sizes[filled:end])
            filled = end
        part.forget()
    return starts, sizes


def choose(reader: Reader, starts: U64, choice: Choice) -> tuple[U64, U64]:
    """The chosen blocks and the first word of each. `starts` are sorted."""
    blocks, firsts = [], []
    buffer = np.empty(_WINDOW, np.uint8)
    first = 0
    while first < len(starts):
        base = int(starts[first])
        last = int(np.searchsorted(starts, np.uint64(base + _WINDOW - 2 * WORD), "right"))
        end = int(starts[last - 1]) + 2 * WORD
        words = reader.window(base, end, buffer)
        part = starts[first:last]
        places = ((part - np.uint64(base)) // np.uint64(WORD)).astype(np.int64)
        chosen = choice(part, words[places], words[places + 1])
        blocks.append(part[chosen])
        firsts.append(words[places][chosen])
        first = last
    if not blocks:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    return np.concatenate(blocks), np.concatenate(firsts)


def is_in(values: U64, ordered: U64) -> Bools:
    """Which values are in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: Bools = ordered[place] == values
    return found


def without(starts: U64, sizes: U64, removed: U64) -> tuple[U64, U64]:
    """The blocks but for some, whose addresses are sorted. The arrays are overwritten."""
    places = np.searchsorted(starts, removed[is_in(removed, starts)])
    kept = int(places[0]) if len(places) else len(starts)
    for number, place in enumerate(places.tolist()):
        following = int(places[number + 1]) if number + 1 < len(places) else len(starts)
        count = following - place - 1
        starts[kept : kept + count] = starts[place + 1 : following]
        sizes[kept : kept + count] = sizes[place + 1 : following]
        kept += count
    return starts[:kept], sizes[:kept]
