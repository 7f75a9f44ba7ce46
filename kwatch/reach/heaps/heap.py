# SPDX-License-Identifier: Apache-2.0
"""What the walk of a heap finds."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.aggregate.order import U64
from kwatch.reach.memory import Ranges


@dataclass(frozen=True, slots=True)
class HeapWalk:
    """The live blocks of a heap, by address. `sizes` are usable sizes.

    pieces: memory that was walked as a whole. Outside live blocks it holds only headers and free
    chunks, so no pointers that count.
    own: the allocator's data, whose pointers do not count either.
    unwalked: one phrase for each part that could not be walked. It is in no piece.
    """

    starts: U64
    sizes: U64
    pieces: Ranges
    own: Ranges
    unwalked: tuple[str, ...]
