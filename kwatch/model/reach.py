# SPDX-License-Identifier: Apache-2.0
"""Which blocks of a heap can still be reached: the classes of a block, and their sums."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Reach(enum.IntEnum):
    """The classes of valgrind's leak check. The lost ones are the greatest.

    REACHABLE: a chain of pointers to the starts of blocks leads there. POSSIBLE: a chain with a
    pointer into the middle of a block. DEFINITE: nothing points to it. INDIRECT: only lost blocks
    point to it; of a cycle, one block is DEFINITE.
    """

    REACHABLE = 0
    POSSIBLE = 1
    INDIRECT = 2
    DEFINITE = 3


#: The class of a block that was allocated after the scan began.
UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """How many blocks of one stack have each class. `unknown`: allocated after the scan began."""

    definite: int = 0
    indirect: int = 0
    possible: int = 0
    reachable: int = 0
    unknown: int = 0

    @property
    def lost(self) -> int:
        return self.definite + self.indirect


@dataclass(frozen=True, slots=True)
class Amount:
    blocks: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class HeapReach:
    """The classes of all blocks of a heap, and how they were found.

    `is_walked`: the blocks come from the allocator's own structures, so those from before the
    attach are among them. `unwalked` names the parts that could not be read so; pointers in them
    count. `stack_only`: reachable, but only from stacks and registers. `is_settled`: no further
    scan would change what is lost. `blind_threads`: threads whose registers no scan could read.
    `unreadable`: bytes that could not be read. `stopped_s`: for how long the process was stopped.
    `error`: why there was no scan; empty if there was one.
    """

    definite: Amount = field(default_factory=Amount)
    indirect: Amount = field(default_factory=Amount)
    possible: Amount = field(default_factory=Amount)
    reachable: Amount = field(default_factory=Amount)
    stack_only: Amount = field(default_factory=Amount)
    scans: int = 0
    seconds: float = 0.0
    stopped_s: float = 0.0
    is_walked: bool = False
    is_settled: bool = False
    blind_threads: int = 0
    unreadable: int = 0
    unwalked: tuple[str, ...] = ()
    error: str = ""

    @property
    def lost(self) -> Amount:
        definite, indirect = self.definite, self.indirect
        return Amount(definite.blocks + indirect.blocks, definite.bytes + indirect.bytes)
