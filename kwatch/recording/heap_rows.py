# SPDX-License-Identifier: Apache-2.0
"""Rows of the tables about the heap, from the events of allocator functions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kwatch.recording.schema import HEAP, SHORT_LIVED
from kwatch.recording.texts import ByNumber, ColumnTexts
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.batches import chosen
from kwatch.wire.events import STACK_IDS, Batch, EventType, types_of

#: By type.
_KINDS: ByNumber = {
    EventType.ALLOC: "alloc",
    EventType.FREE: "free",
    EventType.REUSED: "reused",
    EventType.REALLOC_RELEASE: "realloc frees",
    EventType.REALLOC_KEEP: "realloc fails",
    EventType.ALLOC_FAILED: "alloc fails",
    EventType.MAP: "map",
    EventType.UNMAP: "unmap",
    EventType.BRK: "brk",
}
_HAVE_SIZES = (EventType.ALLOC, EventType.MAP, EventType.UNMAP, EventType.BRK)
_FUNCTIONS = [function.name for function in ALLOCATOR_FUNCTIONS]


def heap_rows(events: Batch, clock_ns: int, texts: ColumnTexts) -> dict[str, pa.RecordBatch]:
    """Rows by table. `clock_ns`: what to add to the times. `texts`: takes the texts of the rows."""
    types = types_of(events)
    is_sum = (types == EventType.PAIRS) | (types == EventType.RELEASES)
    return {
        "heap": _single(chosen(events, ~is_sum), clock_ns, texts),
        "short_lived": _sums(chosen(events, types == EventType.PAIRS), clock_ns),
    }


def _single(events: Batch, clock_ns: int, texts: ColumnTexts) -> pa.RecordBatch:
    types = types_of(events)
    is_call = (types <= EventType.ALLOC_FAILED) & (types != EventType.REUSED)
    functions = np.where(is_call, events["function"], 0).astype(np.intp)
    named = texts["heap", "function"].by_number(functions, _FUNCTIONS)
    columns = [
        pa.array(_signed(events, "time_ns") + clock_ns),
        *(pa.array(np.ascontiguousarray(events[n]).view(np.int32)) for n in ("tgid", "tid")),
        texts["heap", "kind"].by_number(types.astype(np.intp), _KINDS),
        pa.array(named.to_numpy(), mask=~is_call),
        pa.array(_signed(events, "address")),
        pa.array(_signed(events, "size"), mask=~np.isin(types, _HAVE_SIZES)),
        stack_column(events),
    ]
    return pa.RecordBatch.from_arrays(columns, HEAP.names)


def _sums(events: Batch, clock_ns: int) -> pa.RecordBatch:
    columns = [
        pa.array(_signed(events, "time_ns") + clock_ns),
        pa.array(np.ascontiguousarray(events["tgid"]).view(np.int32)),
        stack_column(events),
        pa.array(events["tid"].astype(np.int64)),
        pa.array(_signed(events, "size")),
    ]
    return pa.RecordBatch.from_arrays(columns, SHORT_LIVED.names)


def stack_column(events: Batch) -> pa.Array:
    """The identities; null where an event has no stack."""
    stacks = np.ascontiguousarray(events["stack"])
    return pa.array(stacks.view(np.int64), mask=stacks < STACK_IDS)


def _signed(events: Batch, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.ascontiguousarray(events[name]).view(np.int64)
