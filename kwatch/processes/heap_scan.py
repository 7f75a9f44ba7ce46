# SPDX-License-Identifier: Apache-2.0
"""What the last scan of a process's heap found."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.aggregate.block_classes import BlockClasses
from kwatch.model.reach import HeapReach


@dataclass(frozen=True, slots=True)
class HeapScan:
    """`classes` is None if there was no scan: `reach.error` says why.

    `ended_ns`: when it ended, on the clock of the events.
    """

    reach: HeapReach
    classes: BlockClasses | None = None
    ended_ns: int = 0
