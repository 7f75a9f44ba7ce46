# SPDX-License-Identifier: Apache-2.0
"""What holds a set of blocks, summed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kwatch.model.reach import Amount
from kwatch.reach.block_table import Table

#: A block outside the set, and the number and the bytes of the blocks that it holds.
HOLDING = np.dtype([("address", "<u8"), ("blocks", "<u8"), ("bytes", "<u8")])


class RootSum(NamedTuple):
    name: str
    blocks: int
    bytes: int


class HolderSums(NamedTuple):
    """`found`: the blocks of the set that exist. `roots`: most bytes first. `blocks`: of dtype
    HOLDING."""

    found: Amount
    roots: tuple[RootSum, ...]
    blocks: Table

    @property
    def unheld(self) -> Amount:
        """What nothing holds."""
        held = sum(one.blocks for one in self.roots) + int(self.blocks["blocks"].sum())
        size = sum(one.bytes for one in self.roots) + int(self.blocks["bytes"].sum())
        return Amount(self.found.blocks - held, self.found.bytes - size)
