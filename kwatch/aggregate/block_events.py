# SPDX-License-Identifier: Apache-2.0
"""The events of a batch that begin and end heap blocks, as columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.order import U64, Index
from kwatch.wire.events import Batch, EventType, Types


class BlockEvents(NamedTuple):
    """ALLOC, FREE, REUSED, REALLOC_RELEASE and REALLOC_KEEP events, in order of time.

    Columns that are read for few events only are views of the records.
    """

    types: Types
    addresses: U64
    sizes: U64
    stacks: U64
    times: U64
    tids: npt.NDArray[np.uint32]

    def at(self, index: Index) -> BlockEvents:
        return BlockEvents(self.types[index], *self.blocks(index), self.tids[index])

    def with_reused(self) -> tuple[BlockEvents, Index]:
        """With an ALLOC and a FREE in place of each REUSED event, and where these begin."""
        is_reused = self.types == EventType.REUSED
        if not is_reused.any():
            return self, np.empty(0, np.intp)
        events = self.at(np.repeat(np.arange(len(self.types)), 1 + is_reused))
        begun = np.flatnonzero(events.types == EventType.REUSED)[::2]
        events.types[begun], events.types[begun + 1] = EventType.ALLOC, EventType.FREE
        return events, begun

    def blocks(self, index: Index) -> Blocks:
        """The blocks that ALLOC events began."""
        columns = (self.addresses, self.sizes, self.stacks, self.times)
        return Blocks(*(column[index] for column in columns))


def block_events(batch: Batch, types: Types) -> BlockEvents:
    """`batch` has the dtype `kwatch.wire.events.HEAP`, `types` are its `types_of`."""
    hot = (np.ascontiguousarray(batch[name]) for name in ("address", "size"))
    events = BlockEvents(types, *hot, *(batch[name] for name in ("stack", "time_ns", "tid")))
    if types.max(initial=0) <= EventType.REALLOC_KEEP:
        return events
    return events.at(np.flatnonzero(types <= EventType.REALLOC_KEEP))
