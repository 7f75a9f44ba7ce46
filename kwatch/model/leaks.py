# SPDX-License-Identifier: Apache-2.0
"""What `kwatch leaks` reports about one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kwatch.model.process import ProcessFacts
from kwatch.model.reach import HeapReach
from kwatch.model.snapshot import Verdict


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `class_name`: definite, indirect, possible or reachable. `exact`: `size` is the
    requested size, not the usable one."""

    address: int
    size: int
    class_name: str
    exact: bool


@dataclass(frozen=True, slots=True)
class BlockGroup:
    """Blocks of one class, one size and, if it is known, one type; the first 16 are listed.

    `content`: what the first one begins with, if that is text; None if it was not asked for.
    """

    class_name: str
    size: int
    blocks: int
    bytes: int
    addresses: tuple[int, ...]
    type: str = ""
    content: str | None = None


@dataclass(frozen=True, slots=True)
class LeakReport:
    """`groups`: the blocks that are not still reachable, most bytes first. `blocks`: all of them,
    None if they were not asked for."""

    time: str
    process: ProcessFacts
    reach: HeapReach
    groups: tuple[BlockGroup, ...]
    verdict: Verdict
    reason: str
    blocks: tuple[Block, ...] | None = None
    kind: Literal["leaks"] = "leaks"
