# SPDX-License-Identifier: Apache-2.0
"""What the sinks write: the state of one process at one moment.

The JSON output has the names of these dataclasses (see docs/json.md). Names say whether times are
in seconds or nanoseconds; sizes are in bytes.
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
    """What one stack has allocated since the attach, and how much of it is outstanding."""

    stack: int
    alloc_blocks: int
    alloc_bytes: int
    live_blocks: int
    live_bytes: int
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileMapping:
    """Mapped code; `offset` is in the file, `build_id` in hexadecimal, empty if unknown."""

    start: int
    end: int
    offset: int
    path: str
    build_id: str = ""


@dataclass(frozen=True, slots=True)
class HeapProfile:
    """Every stack that has allocated, without the limits of a listing, and the mapped code."""

    stacks: tuple[StackTotals, ...] = ()
    code: tuple[ProfileMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class HeapStats:
    """`stacks`: outstanding allocations within the listing's limits, most bytes first.

    `young_bytes`, `young_blocks` and `young_stacks`: live blocks that are younger than --older;
    `young_stacks` lists them if they are many.
    `endings` counts distinct stacks by ending (`Ending`). `inherited`: live blocks that a fork
    copied from the parent. `superseded`: blocks whose address was allocated again although no free
    was seen. inherited + allocs - frees - superseded is always live_blocks.
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
    young_bytes: int = 0
    young_blocks: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    stacks: tuple[StackStats, ...] = ()
    young_stacks: tuple[StackStats, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """The memory that the process requested from the kernel since the attach.

    `brk_bytes` is the growth of the heap segment; negative if it shrank. Allocators take the heap
    from this memory, so it includes the heap and is never a leak by itself.

    `own_bytes` and `own_mappings`: what the program mapped itself, without a probed allocator and
    without a file; `stacks` lists it. `anonymous_bytes`: private anonymous memory, resident or
    swapped out, as the kernel counts it; None if it was never read. `anonymous_growth` counts from
    the lowest reading. `unseen_bytes`: the part of that growth that no probed allocator explains.
    `shared_bytes` and `shared_growth`: resident shared memory.
    """

    mapped_bytes: int = 0
    mappings: int = 0
    mmap_calls: int = 0
    munmap_calls: int = 0
    brk_bytes: int = 0
    own_bytes: int = 0
    own_mappings: int = 0
    anonymous_bytes: int | None = None
    anonymous_growth: int = 0
    unseen_bytes: int = 0
    shared_bytes: int = 0
    shared_growth: int = 0
    stacks: tuple[StackStats, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open file descriptors; `growth` counts from the lowest reading."""

    open: int
    growth: int


@dataclass(frozen=True, slots=True)
class SyscallStats:
    """Calls with one name. Percentiles are within 3.2 % (see aggregate/histogram.py).

    `began_earlier`: the unfinished calls that began before the attach.
    """

    name: str
    calls: int
    errors: int
    total_ns: int
    p50_ns: int
    p99_ns: int
    max_ns: int
    unfinished: int = 0
    began_earlier: int = 0


@dataclass(frozen=True, slots=True)
class CallStackStats:
    """Calls with one name from one stack."""

    stack: int
    name: str
    calls: int
    errors: int
    total_ns: int
    frames: tuple[Frame, ...] = ()
    ending: Ending = Ending.LOST


@dataclass(frozen=True, slots=True)
class SyscallSummary:
    """`by_name` and `stacks` have the most total time first; `stacks` is None without stacks.

    `endings` counts distinct stacks by ending (`Ending`). `other_calls`: calls from further stacks,
    beyond the limit of stacks that are counted separately.
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
    """The memory that kwatch uses for the stacks of all processes together."""

    table_bytes: int
    name_bytes: int
    symbol_reader_bytes: int


@dataclass(frozen=True, slots=True)
class EndedStats:
    """System-wide: the processes with one name that have ended since the attach.

    `skipped`: how many of them have no report of their own, because there were too many.
    """

    comm: str
    processes: int
    skipped: int
    syscalls: SyscallSummary | None


@dataclass(frozen=True, slots=True)
class EndedSummary:
    """The names with the most calls, then processes. `other_names`: how many are left out."""

    time: str
    elapsed_s: float
    names: tuple[EndedStats, ...]
    other_names: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One process at one moment; `reason` says why the verdict is what it is.

    `profile` is set if a profile option was given; it is not in the JSON output.
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
    descriptors: Descriptors | None = None
    kwatch: Footprint | None = None
    profile: HeapProfile | None = None
