# SPDX-License-Identifier: Apache-2.0
"""Finds failed reallocs: a REALLOC_RELEASE that the next event of the thread cancels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.block_events import BlockEvents
from kwatch.aggregate.blocks import Blocks, Mask
from kwatch.aggregate.order import Index, stable_argsort
from kwatch.wire.events import EventType


class Reallocs(NamedTuple):
    """The reallocs of one batch; all fields but `stands` and `threads` are indices of events."""

    stands: Mask  #: events that count: no REALLOC_KEEP, no canceled release
    orphans: Index  #: REALLOC_KEEP events whose release is not in this batch
    open: Index  #: releases that the next event of the thread, in a later batch, may cancel
    threads: npt.NDArray[np.uint32]  #: the threads that appear in the batch


class OpenRealloc(NamedTuple):
    """A release that is the last event of its thread so far."""

    address: int
    block: Blocks  #: the block that it ended; empty if none was known


def match_reallocs(events: BlockEvents) -> Reallocs:
    """Finds the release of each REALLOC_KEEP: the event of the same thread before it."""
    order = stable_argsort(events.tids)
    tids = events.tids.take(order)
    kind = events.types.take(order)
    address = events.addresses.take(order)
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
