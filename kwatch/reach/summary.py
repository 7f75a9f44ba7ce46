# SPDX-License-Identifier: Apache-2.0
"""The sums of a scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kwatch.model.reach import Amount, HeapReach, Reach
from kwatch.reach.block_table import Table


def with_amounts(reach: HeapReach, table: Table) -> HeapReach:
    """`reach` with the amounts of a table of dtype SCANNED."""
    classes, sizes = table["reach"], table["size"]
    blocks = np.bincount(classes, minlength=len(Reach)).tolist()
    total = np.bincount(classes, weights=sizes, minlength=len(Reach)).astype(int).tolist()
    amounts = [Amount(*pair) for pair in zip(blocks, total, strict=True)]
    on_stack = table["stack_only"] & (classes == Reach.REACHABLE)
    return replace(
        reach,
        definite=amounts[Reach.DEFINITE],
        indirect=amounts[Reach.INDIRECT],
        possible=amounts[Reach.POSSIBLE],
        reachable=amounts[Reach.REACHABLE],
        stack_only=Amount(int(np.count_nonzero(on_stack)), int(sizes[on_stack].sum())),
    )
