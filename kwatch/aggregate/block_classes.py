# SPDX-License-Identifier: Apache-2.0
"""The classes that a scan gave to blocks, for the blocks of an account."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.order import U64, Index
from kwatch.model.reach import UNKNOWN, Reach

Classes = npt.NDArray[np.uint8]

_NO_ADDRESSES = np.empty(0, np.uint64)


class BlockClasses(NamedTuple):
    """`addresses`, sorted, and the class of each block: a `Reach`.

    `leaders`: for each block that is indirectly lost, the address of the definitely lost one that
    leads to it. The scans took place from `first_ns` to `last_ns`, on the clock of the events.
    """

    addresses: U64
    classes: Classes
    first_ns: int
    last_ns: int
    leaders: U64 = _NO_ADDRESSES

    def of(self, blocks: Blocks) -> Classes:
        """The class of each block; UNKNOWN if it was allocated too late for the scans.

        A block at the address of a lost one is lost only if it was there before the first scan.
        """
        if not len(self.addresses):
            return np.full(len(blocks.addresses), UNKNOWN, np.uint8)
        at = np.minimum(self.addresses.searchsorted(blocks.addresses), len(self.addresses) - 1)
        classes = self.classes[at]
        first, last = np.uint64(self.first_ns), np.uint64(self.last_ns)
        since = np.where(classes >= Reach.INDIRECT, first, last)
        is_scanned = (self.addresses[at] == blocks.addresses) & (blocks.times < since)
        return np.where(is_scanned, classes, np.uint8(UNKNOWN))

    def leaders_of(self, blocks: Blocks, classes: Classes) -> Index:
        """For each block, the index of the one that leads to it; its own if it is none of them.

        `blocks` are sorted by address; `classes` are theirs.
        """
        led: Index = np.arange(len(classes))
        indirect = np.flatnonzero(classes == Reach.INDIRECT)
        if not len(indirect) or not len(self.leaders):
            return led
        leaders = self.leaders[self.addresses.searchsorted(blocks.addresses[indirect])]
        at = np.minimum(blocks.addresses.searchsorted(leaders), len(led) - 1)
        known = (blocks.addresses[at] == leaders) & (classes[at] == Reach.DEFINITE)
        led[indirect[known]] = at[known]
        return led
