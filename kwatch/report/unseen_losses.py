# SPDX-License-Identifier: Apache-2.0
"""What is lost of the blocks that kwatch did not see allocated, and whether it is a leak."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kwatch.model.reach import Amount
from kwatch.report.reach_text import lost_text

# Programs lose a few small blocks once, at their start: a JVM 3 to 18, ruby 3, PostgreSQL 1. What
# is more than that was lost again and again, or matters by its size.
_MIN_BLOCKS = 64  # that nothing points to
_MIN_BYTES = 1 << 20
_MIN_PART = 10  # a tenth of the heap's bytes, which is
_MIN_BYTES_OF_PART = 4096  # at least


class Origin(enum.StrEnum):
    """Where such blocks are from, as a sentence says it."""

    BEFORE_ATTACH = " allocated before the attach"
    BEFORE_FORK = " from before the fork"
    OTHER_SIZES = " of other sizes or from before the attach"
    UNSEEN = ", whose allocation kwatch did not see,"


@dataclass(frozen=True, slots=True)
class UnseenLosses:
    """`definite`: how many of the blocks nothing points to. `heap_bytes`: those of all blocks."""

    origin: Origin
    amount: Amount
    definite: int
    heap_bytes: int

    @property
    def text(self) -> str:
        return lost_text(self.amount, self.origin)

    @property
    def are_many(self) -> bool:
        """Whether they are more than what programs lose once, at their start."""
        part = self.amount.bytes * _MIN_PART >= self.heap_bytes
        return (
            self.definite >= _MIN_BLOCKS
            or self.amount.bytes >= _MIN_BYTES
            or (part and self.amount.bytes >= _MIN_BYTES_OF_PART)
        )

    def notes(self, pid: int, none_since: bool) -> str:
        """What else the reader should know, to follow the text. `pid`: 0 if it has ended."""
        if self.origin is not Origin.BEFORE_ATTACH:
            return ""
        since = "; no block allocated since is lost" if none_since else ""
        hints = f"; kwatch leaks --pid {pid} lists their sizes and types" if pid else ""
        return since + hints
