# SPDX-License-Identifier: Apache-2.0
"""Releases that may be errors, as the account of a process hands them on."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class Suspicion(enum.Enum):
    FREED = "freed"  # the block there has been freed
    INSIDE = "inside"  # a live block contains the address, but does not begin there
    UNKNOWN = "unknown"  # no block was seen there
    MISMATCHED = "mismatched"  # the function that allocated the block is of another kind


@dataclass(frozen=True, slots=True)
class Use:
    """A call of an allocator function: see kwatch.memory_errors.block_table.BLOCK."""

    time_ns: int
    tid: int
    stack: int
    function: int
    allocator: int


@dataclass(frozen=True, slots=True)
class Block:
    """`allocated` is None if that was not seen, `freed` while the block is live."""

    address: int
    size: int
    allocated: Use | None = None
    freed: Use | None = None
    by_realloc: bool = False

    @property
    def began_ns(self) -> int:
        """Since when everything that happened to it must have been seen."""
        use = self.freed or self.allocated
        return use.time_ns if use is not None else 0


@dataclass(frozen=True, slots=True)
class Suspect:
    """`chunk`: what the words around the block said, see enum kwatch_chunk in bpf/events.h."""

    suspicion: Suspicion
    address: int
    use: Use
    chunk: int
    is_realloc: bool
    block: Block | None = None


def block_of(row: np.void) -> Block:
    """The block of a row of the table."""
    allocated, freed = (_use(row, name) for name in ("alloc", "free"))
    address, size = int(row["address"]), int(row["size"])
    return Block(address, size, allocated, freed, bool(row["by_realloc"]))


def _use(row: np.void, name: str) -> Use | None:
    if not row[f"{name}_ns"]:
        return None
    members = ("ns", "tid", "stack", "function", "allocator")
    return Use(*(int(row[f"{name}_{member}"]) for member in members))
