# SPDX-License-Identifier: Apache-2.0
"""What the aggregators hand to the sinks: the state of one process at one moment.

The JSON output is these dataclasses by name (see docs/json.md); times are seconds or
nanoseconds as their names say, sizes are bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

from kwatch.model.frame import Ending, Frame
from kwatch.model.process import ProcessFacts


class Verdict(enum.StrEnum):
    CLEAN = "clean"
    LEAK = "leak"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class StackStats:
    """Outstanding blocks that one stack allocated; the first 16 are listed."""

    stack: int
    bytes: int
    blocks: int
    oldest_s: float
    addresses: tuple[int, ...]
    sizes: tuple[int, ...]
    frames: tuple[Frame, ...] = ()
    ending: Ending = Ending.LOST


@dataclass(frozen=True, slots=True)
class StackTotals:
    """What one stack has allocated since the attach, and what of it is outstanding."""

    stack: int
    alloc_blocks: int
    alloc_bytes: int
    live_blocks: int
    live_bytes: int
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """Mapped code; `offset` is in the file, `build_id` in hexadecimal, empty if unknown."""

    start: int
    end: int
    offset: int
    path: str
    build_id: str = ""


@dataclass(frozen=True, slots=True)
class HeapProfile:
    """Every stack that has allocated, whatever the listing's limits are, and the mapped code."""

    stacks: tuple[StackTotals, ...] = ()
    code: tuple[CodeMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class HeapStats:
    """`stacks`: outstanding allocations within the listing's limits, most bytes first.

    `endings` counts the distinct stacks that were seen by how they end (`Ending`).
    `inherited`: live blocks that came with the fork. `superseded`: blocks whose address was given
    out again although their free was not seen. inherited + allocs - frees - superseded is always
    live_blocks.
    """

    live_bytes: int = 0
    live_blocks: int = 0
    allocs: int = 0
    alloc_bytes: int = 0
    frees: int = 0
    freed_bytes: int = 0
    unknown_frees: int = 0
    failed_allocs: int = 0
    inherited: int = 0
    superseded: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    stacks: tuple[StackStats, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """What the process asked of the kernel since the attach, beside the heap.

    `brk_bytes` is the heap segment's growth (negative: it shrank). Allocators take the heap from
    here, so these bytes contain the heap's and are never a leak by themselves.
    """

    mapped_bytes: int = 0
    mappings: int = 0
    mmap_calls: int = 0
    munmap_calls: int = 0
    brk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SyscallStats:
    """Calls of one name. Percentiles are within 3.2 % (see aggregate/histogram.py)."""

    name: str
    calls: int
    errors: int
    total_ns: int
    p50_ns: int
    p99_ns: int
    max_ns: int
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class CallStackStats:
    """Calls of one name from one stack."""

    stack: int
    name: str
    calls: int
    errors: int
    total_ns: int
    frames: tuple[Frame, ...] = ()
    ending: Ending = Ending.LOST


@dataclass(frozen=True, slots=True)
class SyscallSummary:
    """`by_name`: most total time first; so are `stacks`, which are None if nobody wants them.

    `endings` counts the distinct stacks that were seen by how they end (`Ending`). `other_calls`
    came from more stacks than are told apart.
    """

    calls: int = 0
    errors: int = 0
    by_name: tuple[SyscallStats, ...] = ()
    endings: dict[str, int] = field(default_factory=dict)
    stacks: tuple[CallStackStats, ...] | None = None
    other_calls: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """Events that happened and were not delivered, by cause."""

    events: int = 0
    by_cause: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that stacks take at that moment, of all processes together."""

    table_bytes: int
    name_bytes: int
    symbol_reader_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One process at one moment; `reason` says why the verdict is what it is.

    `profile` is there if files of it were asked for; JSON has it not.
    """

    kind: Literal["snapshot", "final"]
    time: str
    elapsed_s: float
    process: ProcessFacts
    heap: HeapStats | None
    memory: MemoryStats | None
    syscalls: SyscallSummary | None
    lost: Lost
    verdict: Verdict | None
    reason: str = ""
    kwatch: Footprint | None = None
    profile: HeapProfile | None = None
