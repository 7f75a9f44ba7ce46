# SPDX-License-Identifier: Apache-2.0
"""Events of one heap, and an account that gets them."""

from __future__ import annotations

import numpy as np

from harness.records import heap_record, typed
from kwatch.aggregate import HeapAccount
from kwatch.wire.events import HEAP, EventType


def event(kind, address=0, size=0, stack=0, time=0, tid=1):
    return heap_record(
        type=kind, tid=tid, time_ns=time, address=address, size=size, stack=stack, tgid=1
    )


def alloc(address, size=10, **more):
    return event(EventType.ALLOC, address, size, **more)


def free(address, **more):
    return event(EventType.FREE, address, **more)


def failed(size=10, **more):
    return event(EventType.ALLOC_FAILED, 0, size, **more)


def release(address, **more):
    return event(EventType.REALLOC_RELEASE, address, **more)


def keep(address, **more):
    return event(EventType.REALLOC_KEEP, address, **more)


def account(*batches):
    """An account that has got these batches, each a list of events."""
    given = HeapAccount()
    for events in batches:
        given.add(*typed(np.array(events, HEAP)))
    return given


def live(given):
    rows = zip(*(column.tolist() for column in given.live_blocks()), strict=True)
    return {address: tuple(rest) for address, *rest in rows}


def counters(given):
    stats = given.snapshot(0)
    assert given.inherited + stats.allocs - stats.frees - given.superseded == stats.live_blocks
    return {
        name: getattr(stats, name)
        for name in ("allocs", "alloc_bytes", "frees", "freed_bytes", "unknown_frees")
        if getattr(stats, name)
    }
