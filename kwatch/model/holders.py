# SPDX-License-Identifier: Apache-2.0
"""What holds a block, and what holds the blocks of a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount


@dataclass(frozen=True, slots=True)
class PathStep:
    """A block on the way. The pointer before it leads to offset `entry`, and its word at offset
    `pointer` leads to the next block; None if that has changed since the scan, and at the end."""

    address: int
    size: int
    entry: int | None
    pointer: int | None


@dataclass(frozen=True, slots=True)
class HolderPath:
    """Why the block with this address is held: a root, and the blocks from there to it.

    `class_name`: definite, indirect, possible or reachable; empty if no block has the address.
    `root`: a variable, a stack, a register or another place; empty for what is lost. `root_address`
    is None for a register.
    """

    time: str
    process: ProcessFacts
    address: int
    class_name: str
    root: str = ""
    root_address: int | None = None
    path: tuple[PathStep, ...] = ()
    kind: Literal["why"] = "why"


@dataclass(frozen=True, slots=True)
class HolderSum:
    """One place and what it holds. `kind`: `root`, or `block` if other blocks hold them.

    `name`: a variable, a stack, or registers; of blocks, the function that allocated them, or what
    they are if that is not known: their class or their size.
    """

    kind: str
    name: str
    blocks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HolderReport:
    """What holds all outstanding blocks that `function` has led to. `stacks`: how many of them.

    Without a function, `of` is the size or the class of the blocks. `found`: these blocks.
    `held_by`: most bytes first. `unheld`: those for which one scan has found nothing. `error`: why
    it is not known; empty if it is.
    """

    time: str
    process: ProcessFacts
    function: str = ""
    stacks: int = 0
    found: Amount = field(default_factory=Amount)
    held_by: tuple[HolderSum, ...] = ()
    unheld: Amount = field(default_factory=Amount)
    error: str = ""
    of: str = ""
    kind: Literal["who"] = "who"
