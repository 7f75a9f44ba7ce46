# SPDX-License-Identifier: Apache-2.0
"""Failed reallocs: a thread's REALLOC_RELEASE that its very next event takes back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kwatch.aggregate.blocks import Blocks, Mask
from kwatch.aggregate.order import U64, Index, stable_argsort
from kwatch.events import Batch, EventType


class Reallocs(NamedTuple):
    """What the thread order says about one batch; all but `stands` are indices of events."""

    stands: Mask  #: events that count: no REALLOC_KEEP, no release taken back
    orphans: Index  #: REALLOC_KEEP events whose release is not in this batch
    open: Index  #: releases that the first event of the next batch may still take back
    threads: U64  #: the threads that appear in the batch


class OpenRealloc(NamedTuple):
    """A release at the end of a batch, the last event of its thread so far."""

    address: int
    block: Blocks  #: what it ended; empty if the address was not known to be live


def match_reallocs(batch: Batch) -> Reallocs:
    """Only ALLOC, FREE, REALLOC_RELEASE and REALLOC_KEEP events, in the order of time."""
    tids = batch["tid"].astype(np.uint64)
    order = stable_argsort(tids)
    tids = tids.take(order)
    kind = batch["type"].take(order)
    address = batch["address"].take(order)
    follows = np.zeros(len(order), bool)  # the event before it is of the same thread
    np.equal(tids[1:], tids[:-1], out=follows[1:])
    keep = kind == EventType.REALLOC_KEEP
    release = kind == EventType.REALLOC_RELEASE
    matched = follows & keep
    matched[1:] &= release[:-1] & (address[1:] == address[:-1])
    stands = np.ones(len(order), bool)
    stands[order[keep]] = False
    stands[order[:-1][matched[1:]]] = False
    is_last = np.append(~follows[1:], True)
    return Reallocs(stands, order[keep & ~follows], order[release & is_last], tids[~follows])
