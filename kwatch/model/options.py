# SPDX-License-Identifier: Apache-2.0
"""The options that the user gave, checked, as frozen dataclasses."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

UNLIMITED = (1 << 64) - 1


class Returns(enum.Enum):
    """How the return of an allocator function is caught.

    PROBE: by a return probe, which replaces the return address on the stack. RET: by probes on the
    ret instructions, which leaves the stack alone but costs more on x86-64. AUTO: RET in files
    that could not stand the other way, see kwatch.probes.families.
    """

    AUTO = "auto"
    PROBE = "probe"
    RET = "ret"


class Releases(enum.Enum):
    """When frees carry their stacks. SAMPLED: see kwatch.session.release_windows."""

    SAMPLED = "sampled"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What is traced, and in which processes.

    `trace`: names of system calls, None for all. `buffer`: bytes of a ring, a power of two.
    `heap_stacks` needs `heap`, `call_stacks` needs `syscalls`. `single_calls`: an observer sees
    every system call. `record`: each is recorded with its arguments and up to `content` bytes of
    each buffer, not only counted; `filter_code` is C that drops some of them in the kernel.
    `watch`: hits of watchpoints (kwatch.watchpoints) are recorded, with their stacks.
    `every_block`: also blocks that are freed soon have events of their own.
    `min_size` and `max_size`, in bytes, select blocks. `perf_uprobes`: see ProgramConfig.
    `alloc_totals`: also count all allocations of each stack. `scan_at_exit`: hold the memory of
    each target, not of a launched command only.
    """

    pids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    follow: bool = False
    heap: bool = True
    heap_stacks: bool = True
    syscalls: bool = True
    call_stacks: bool = False
    single_calls: bool = False
    record: bool = False
    content: int = 0
    filter_code: str = ""
    watch: bool = False
    every_block: bool = False
    trace: frozenset[str] | None = None
    min_size: int = 0
    max_size: int = UNLIMITED
    alloc_prefixes: tuple[str, ...] = ()
    returns: Returns = Returns.AUTO
    releases: Releases = Releases.SAMPLED
    perf_uprobes: bool = False
    alloc_totals: bool = False
    scan_at_exit: bool = False
    buffer: int = 8 << 20

    @property
    def system_wide(self) -> bool:
        return not (self.pids or self.comms or self.command)

    @property
    def holds_memory(self) -> bool:
        """Whether the memory of targets is held, so that it is scanned once more at their end."""
        return self.heap and (self.scan_at_exit or bool(self.command))

    @property
    def learns_releases(self) -> bool:
        """Whether frees carry their stacks at times. System-wide, there are too many processes."""
        return self.heap_stacks and self.releases is not Releases.NEVER and not self.system_wide

    @property
    def stacks(self) -> bool:
        """Whether any event has a stack."""
        return self.heap_stacks or self.call_stacks or self.watch

    @property
    def sums_calls(self) -> bool:
        """Whether the kernel sums up system calls: nothing needs each one."""
        return self.syscalls and not (self.call_stacks or self.single_calls or self.record)

    @property
    def mappings(self) -> bool:
        """Whether kwatch needs the mappings of the targets, for probes or for stacks."""
        return self.heap or self.stacks

    @property
    def selects_sizes(self) -> bool:
        """Whether some blocks are not traced because of their size."""
        return self.min_size > 0 or self.max_size < UNLIMITED

    @property
    def names_programs(self) -> bool:
        """Whether the kernel has to record the mappings and names of every process.

        If a process ends before kwatch looks at it, only these records name its program.
        """
        return self.mappings or self.follow or bool(self.comms or self.command)


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What reports show, when they are written, and where.

    Reports list the `top` stacks with blocks that are at least `older_s` old. `profiles`: the path
    of each profile, by the name of its format (kwatch.sinks.formats). `wrappers`: list the wrappers
    of the allocator; `wrapper_names` are some, and `other_names` are none. `marks`: marks can be
    set. `who`: the function whose blocks' holders are reported at the end.
    """

    older_s: float = 0.5
    top: int = 10
    full_stacks: bool = False
    interval_s: float = 5.0
    count: int | None = None
    duration_s: float | None = None
    json: bool = False
    output: str | None = None
    profiles: Mapping[str, str] = field(default_factory=dict)
    fail_on_leak: bool = False
    wrappers: bool = False
    wrapper_names: frozenset[str] = frozenset()
    other_names: frozenset[str] = frozenset()
    fail_on_growth: bool = False
    marks: bool = False
    who: str | None = None

    @property
    def needs_verdict(self) -> bool:
        """Whether the exit status depends on the verdicts."""
        return self.fail_on_leak or self.fail_on_growth
