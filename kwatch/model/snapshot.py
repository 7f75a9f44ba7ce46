# SPDX-License-Identifier: Apache-2.0
"""What the sinks write: the state of one process at one moment.

The JSON output has the names of these dataclasses (see docs/json.md). Names say whether times are
in seconds or nanoseconds; sizes are in bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from kwatch.model.frame import Ending, Frame
from kwatch.model.growth import GrowthEvidence
from kwatch.model.mark import SinceMark
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount, BlockCounts, HeapReach


class Verdict(enum.StrEnum):
    CLEAN = "clean"
    LEAK = "leak"
    GROWING = "growing"
    UNSURE = "unsure"


#: What a reader has to act on.
FAULTS = (Verdict.LEAK, Verdict.GROWING)


class Evidence(enum.StrEnum):
    """What shows that a function is a wrapper of the allocator."""

    STACKS = "stacks"
    CODE = "code"
    NAME = "name"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Wrapper:
    """`confidence`: in how many of the stacks with the function it calls the allocator."""

    function: str
    module: str
    callers: int
    sizes: int
    blocks: int
    confidence: float
    evidence: Evidence


class BlockOwner(enum.StrEnum):
    """Whose blocks are: the program's; a library's, for the program; or a library's own state."""

    PROGRAM = "program"
    LIBRARY = "library"
    LIBRARY_STATE = "library state"


class ReleaseCount(NamedTuple):
    """How many blocks that the stack `alloc` allocated the stack `release` has released.

    `lifetime_ns`: of all of them together.
    """

    alloc: int
    release: int
    blocks: int
    lifetime_ns: int


@dataclass(frozen=True, slots=True)
class Release:
    """Where blocks of a stack are usually freed.

    `blocks` of the `of` frees whose stack was taken were there, `mean_lifetime_s` after the
    allocation. `frames`: the most frequent stack of these frees. `at`: the index of the frame that
    decides where it is: the first one that is no library's and no wrapper of `free`.
    """

    frames: tuple[Frame, ...]
    blocks: int
    of: int
    mean_lifetime_s: float
    at: int = 0


@dataclass(frozen=True, slots=True)
class StackStats:
    """Outstanding blocks that one stack allocated; the first 16 are listed, lost ones first.

    `reach`: how many of them are lost; None if the heap was not scanned. `lost_bytes`: the size of
    those. `direct`: those to which no other known lost block leads; `indirect`: what only these
    lead to, whoever allocated it. `release`: where other blocks of the stack were freed; None if no
    free was seen. `owner` and `owner_module`: whose the blocks are; None and empty if that is
    unknown.
    """

    stack: int
    bytes: int
    blocks: int
    oldest_s: float
    addresses: tuple[int, ...]
    sizes: tuple[int, ...]
    frames: tuple[Frame, ...] = ()
    ending: Ending = Ending.LOST
    release: Release | None = None
    owner: BlockOwner | None = None
    owner_module: str = ""
    reach: BlockCounts | None = None
    lost_bytes: int = 0
    direct: Amount = field(default_factory=Amount)
    indirect: Amount = field(default_factory=Amount)


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
    was seen. inherited + allocs - frees - superseded is always live_blocks. `thread_end_frees`:
    those of the unknown frees that glibc made as threads ended; 0 if they may be others.
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
    reach: HeapReach | None = None
    stacks: tuple[StackStats, ...] = ()
    young_stacks: tuple[StackStats, ...] = ()
    thread_end_frees: int = 0


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

    `wrappers`: the wrappers of the allocator, most blocks first; None if they are not listed.
    `profile` is set if a profile option was given; it is not in the JSON output. `growth`: what has
    grown, or may have; in final reports. `mark`: the number of the mark, whose report lists the
    blocks of `since_mark`; None in other reports.
    """

    kind: Literal["snapshot", "final", "mark"]
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
    wrappers: tuple[Wrapper, ...] | None = None
    kwatch: Footprint | None = None
    profile: HeapProfile | None = None
    growth: tuple[GrowthEvidence, ...] = ()
    mark: int | None = None
    since_mark: SinceMark | None = None
