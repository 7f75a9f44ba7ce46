# SPDX-License-Identifier: Apache-2.0
"""The samples of all that may grow in one process."""

from __future__ import annotations

import enum

from kwatch.ownership.growth import AgesOf, Assessment, Growth
from kwatch.ownership.stack_growth import StackGrowth


class Quantity(enum.Enum):
    """OLDER_FREES: frees that may be of blocks from before the attach.

    UNSEEN_BYTES: anonymous memory less what the probed allocators explain of it; may be negative.
    """

    HEAP_BYTES = enum.auto()
    HEAP_BLOCKS = enum.auto()
    OLDER_FREES = enum.auto()
    DESCRIPTORS = enum.auto()
    SHARED_BYTES = enum.auto()
    OWN_BYTES = enum.auto()
    OWN_MAPPINGS = enum.auto()
    UNSEEN_BYTES = enum.auto()


#: An exec ends the memory of a process; its descriptors stay.
_STAYING = {Quantity.DESCRIPTORS}


class ProcessGrowth:
    """`stacks`: the live blocks by stack; None before the first sample with blocks."""

    def __init__(self) -> None:
        self._growths: dict[Quantity, Growth] = {}
        self.stacks: StackGrowth | None = None

    def add(self, time_ns: int, quantity: Quantity, value: float) -> None:
        """Adds a sample, in order of time."""
        self._growths.setdefault(quantity, Growth()).add(time_ns, value)

    def assess(self, quantity: Quantity) -> Assessment:
        return self._growths.get(quantity, Growth()).assess()

    def assess_heap(self, ages_of: AgesOf) -> tuple[Assessment, int]:
        """Judges the bytes of the heap as those of a stack are judged, with their ages.

        Also returns when the time of that growth began.
        """
        heap = self._growths.get(Quantity.HEAP_BYTES, Growth())
        grown = heap.assess(ages_of)
        return grown, heap.before_last_ns(grown.seconds)

    def exec(self) -> None:
        """A new program starts without memory; it keeps the descriptors."""
        self._growths = {key: self._growths[key] for key in _STAYING & self._growths.keys()}
        self.stacks = None
