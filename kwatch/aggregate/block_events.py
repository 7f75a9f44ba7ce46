# SPDX-License-Identifier: Apache-2.0
"""The events of a batch that concern heap blocks, as contiguous columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.order import U64, Index
from kwatch.wire.events import Batch, EventType, Types


class BlockEvents(NamedTuple):
    """Only ALLOC, FREE, REALLOC_RELEASE and REALLOC_KEEP, in the order of time.

    The columns that only a few events are asked for are views of the records.
    """

    types: Types
    addresses: U64
    sizes: U64
    stacks: U64
    times: U64
    tids: npt.NDArray[np.uint32]

    def at(self, index: Index) -> BlockEvents:
        return BlockEvents(self.types[index], *self.blocks(index), self.tids[index])

    def blocks(self, index: Index) -> Blocks:
        """What ALLOC events say about the blocks that they began."""
        columns = (self.addresses, self.sizes, self.stacks, self.times)
        return Blocks(*(column[index] for column in columns))


def block_events(batch: Batch, types: Types) -> BlockEvents:
    """From events of dtype `kwatch.wire.events.HEAP` and their `types_of`."""
    hot = (np.ascontiguousarray(batch[name]) for name in ("address", "size"))
    events = BlockEvents(types, *hot, *(batch[name] for name in ("stack", "time_ns", "tid")))
    if types.max(initial=0) <= EventType.REALLOC_KEEP:
        return events
    return events.at(np.flatnonzero(types <= EventType.REALLOC_KEEP))
