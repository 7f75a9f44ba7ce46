# SPDX-License-Identifier: Apache-2.0
"""Cancels blocks that begin and end in the same batch, so that only the others are looked up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kwatch.aggregate.blocks import Mask
from kwatch.aggregate.order import U64, Index, stable_argsort


class Survivors(NamedTuple):
    """What remains of a batch: indices of events, by ascending address."""

    begun: Index  #: allocations whose block is live at the end of the batch
    passing: Index  #: the first of several events of an address, if an allocation
    superseded: Index  #: allocations followed by another one of the same address
    ended: Index  #: releases of blocks that began before the batch
    repeated: int  #: releases that follow another release of the same address


def cancel_pairs(addresses: U64, is_alloc: Mask) -> Survivors:
    """`addresses` and `is_alloc` (else a release) describe events in order of time.

    In order of (address, time), an allocation followed directly by a release is one block. Only
    `begun` and `passing` can have an address that is still live, if its free was not seen.
    """
    order = stable_argsort(addresses)
    addresses = addresses.take(order)
    alloc = is_alloc.take(order)
    same = addresses[1:] == addresses[:-1]
    first, last = np.ones((2, len(order)), bool)
    np.logical_not(same, out=first[1:])
    np.logical_not(same, out=last[:-1])
    return Survivors(
        begun=order[alloc & last],
        passing=order[alloc & first & ~last],
        superseded=order[:-1][alloc[:-1] & alloc[1:] & same],
        ended=order[first & ~alloc],
        repeated=int(np.count_nonzero(same & ~alloc[:-1] & ~alloc[1:])),
    )


def completed(addresses: U64, is_alloc: Mask) -> tuple[Index, Index]:
    """The allocations that are released in the same batch, and the release of each."""
    order = stable_argsort(addresses)
    addresses = addresses.take(order)
    alloc = is_alloc.take(order)
    at = np.flatnonzero((addresses[1:] == addresses[:-1]) & alloc[:-1] & ~alloc[1:])
    return order[at], order[at + 1]
