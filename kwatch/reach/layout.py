# SPDX-License-Identifier: Apache-2.0
"""The blocks of a heap, from a walk through it, from the allocations that were seen, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kwatch.aggregate.order import U64, stable_argsort
from kwatch.reach.memory import Ranges
from kwatch.reach.ranges import Mask, contains, merged

NO_RANGES: Ranges = np.empty((0, 2), np.uint64)


class Walk(Protocol):
    """What a walk through a heap found. `sizes` are usable sizes; `starts` ascend."""

    @property
    def starts(self) -> U64: ...
    @property
    def sizes(self) -> U64: ...
    @property
    def pieces(self) -> Ranges: ...
    @property
    def own(self) -> Ranges: ...


@dataclass(frozen=True, slots=True)
class HeapLayout:
    """The live blocks, by address.

    `exact` says whose size is the one that was asked for; it is the usable size otherwise. Words in
    `pieces` and outside the blocks hold no pointers that count: they are the allocator's headers,
    and free memory. The same holds for `own`, the allocator's data elsewhere. Both are merged.
    """

    starts: U64
    sizes: U64
    exact: Mask
    pieces: Ranges
    own: Ranges

    def __len__(self) -> int:
        return len(self.starts)


def layout(walk: Walk | None, known: tuple[U64, U64] | None) -> HeapLayout:
    """`known`: the addresses and requested sizes of the live blocks that kwatch has seen.

    A walk says which blocks exist in its pieces. Elsewhere, as in a second allocator or in a piece
    that could not be walked, the blocks are those that were seen, and all else can hold pointers.
    """
    addresses, requested = _by_address(known)
    if walk is None:
        exact = np.ones(len(addresses), bool)
        return HeapLayout(addresses, requested, exact, NO_RANGES, NO_RANGES)
    pieces, own = merged(walk.pieces), merged(walk.own)
    sizes, exact = walk.sizes.copy(), np.zeros(len(walk.starts), bool)
    at = walk.starts.searchsorted(addresses)
    here = at < len(walk.starts)
    here[here] = walk.starts[at[here]] == addresses[here]
    fits = here.copy()
    fits[here] = requested[here] <= walk.sizes[at[here]]
    sizes[at[fits]] = requested[fits]
    exact[at[fits]] = True
    others = ~here & ~contains(pieces, addresses)
    if not others.any():
        return HeapLayout(walk.starts, sizes, exact, pieces, own)
    starts = np.concatenate((walk.starts, addresses[others]))
    order = stable_argsort(starts)
    sizes = np.concatenate((sizes, requested[others]))[order]
    exact = np.concatenate((exact, np.ones(int(others.sum()), bool)))[order]
    return HeapLayout(starts[order], sizes, exact, pieces, own)


def _by_address(known: tuple[U64, U64] | None) -> tuple[U64, U64]:
    """Sorted, without addresses that come twice."""
    if known is None:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    addresses, sizes = known
    if np.all(addresses[1:] > addresses[:-1]):
        return addresses, sizes
    order = stable_argsort(addresses)
    addresses, sizes = addresses[order], sizes[order]
    last = np.concatenate((addresses[1:] != addresses[:-1], [True]))
    return addresses[last], sizes[last]
