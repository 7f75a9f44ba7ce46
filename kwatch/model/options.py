# SPDX-License-Identifier: Apache-2.0
"""What the user asked for: the command line as frozen dataclasses, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What is traced, and in which processes.

    `trace`: names of system calls, None for all. `buffer`: bytes of a ring, a power of two.
    `heap_stacks` goes with `heap`, `call_stacks` with `syscalls`. `min_size` and `max_size`, in
    bytes, select blocks. `alloc_totals`: count what each stack has allocated, too.
    """

    pids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    follow: bool = False
    heap: bool = True
    heap_stacks: bool = True
    syscalls: bool = True
    call_stacks: bool = False
    trace: frozenset[str] | None = None
    min_size: int = 0
    max_size: int = UNLIMITED
    alloc_prefixes: tuple[str, ...] = ()
    alloc_totals: bool = False
    buffer: int = 8 << 20

    @property
    def system_wide(self) -> bool:
        return not (self.pids or self.comms or self.command)

    @property
    def stacks(self) -> bool:
        """Whether any event comes with its stack."""
        return self.heap_stacks or self.call_stacks

    @property
    def mappings(self) -> bool:
        """Whether kwatch has to know what the targets map: for probes or for stacks."""
        return self.heap or self.stacks

    @property
    def names_programs(self) -> bool:
        """Whether the kernel has to record what every process maps and how it is named.

        A process may be gone before kwatch looks: then only these records name its program.
        """
        return self.mappings or self.follow or bool(self.comms or self.command)


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What reports show, when they come, and where they go.

    Blocks are listed from the age of `older_s` on, by the `top` stacks. `profiles`: paths by the
    name of a format (kwatch.sinks.formats).
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
