# SPDX-License-Identifier: Apache-2.0
"""Growth: the words for it, and the evidence that reports have."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class GrowthKind(enum.StrEnum):
    """UNKNOWN: not enough data."""

    GROWING = "growing"
    SATURATING = "saturating"
    STEADY = "steady"
    UNKNOWN = "unknown"


class Grown(enum.StrEnum):
    """What has grown. BLOCKS: those of one stack. UNSEEN_MEMORY: of no probed allocator."""

    BLOCKS = "blocks"
    HEAP = "heap"
    MAPPINGS = "mappings"
    UNSEEN_MEMORY = "unseen_memory"
    SHARED_MEMORY = "shared_memory"
    DESCRIPTORS = "descriptors"


class StackGain(NamedTuple):
    """The blocks of one stack that were allocated in some time, and are still live."""

    stack: int
    bytes: int
    blocks: int


@dataclass(frozen=True, slots=True)
class GrowthEvidence:
    """One thing that has grown. `kind` is GROWING, or UNKNOWN if it is too early to tell.

    `per_s` is the slope in bytes or in numbers, as `unit` says, with its standard error, over
    `seconds`. `stack`: the id of that of the blocks, or for the heap as a whole of the one that has
    gained most; None otherwise. The sentence does not name it. `gains`, for the heap: the stacks
    that have gained most, the first has most.
    """

    what: Grown
    kind: GrowthKind
    sentence: str
    unit: str
    per_s: float
    error: float
    seconds: float
    stack: int | None = None
    gains: tuple[StackGain, ...] = ()

    @property
    def stacks(self) -> tuple[int, ...]:
        """The ids of all its stacks."""
        if self.gains:
            return tuple(each.stack for each in self.gains)
        return () if self.stack is None else (self.stack,)
