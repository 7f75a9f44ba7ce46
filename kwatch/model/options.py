# SPDX-License-Identifier: Apache-2.0
"""What the user asked for: the command line as a frozen dataclass, checked."""

from __future__ import annotations

from dataclasses import dataclass

UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """Which outstanding blocks a snapshot lists; `full_stacks`: with every frame in tables."""

    older_s: float = 0.5
    min_size: int = 0
    max_size: int = UNLIMITED
    top: int = 10
    full_stacks: bool = False


@dataclass(frozen=True, slots=True)
class ProfileFiles:
    """Where profiles of the heap go, by format."""

    folded: str | None = None
    pprof: str | None = None
    speedscope: str | None = None
    flamegraph: str | None = None

    @property
    def wanted(self) -> bool:
        return self != ProfileFiles()


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Options of `kwatch` without a command.

    `trace`: names of system calls, None for all. `buffer`: bytes of a ring, a power of two.
    `heap_stacks` goes with `heap`, `call_stacks` with `syscalls`.
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
    listing: Listing = Listing()
    alloc_prefixes: tuple[str, ...] = ()
    interval_s: float = 5.0
    count: int | None = None
    duration_s: float | None = None
    json: bool = False
    output: str | None = None
    profiles: ProfileFiles = ProfileFiles()
    buffer: int = 8 << 20
    fail_on_leak: bool = False

    @property
    def system_wide(self) -> bool:
        return not (self.pids or self.comms or self.command)

    @property
    def stacks(self) -> bool:
        """Whether anything comes with its stack."""
        return self.heap_stacks or self.call_stacks

    @property
    def mappings(self) -> bool:
        """Whether it matters what the targets have mapped: for their probes, or their stacks."""
        return self.heap or self.stacks

    @property
    def names_programs(self) -> bool:
        """Whether the kernel is to say what every process maps, and how it is named.

        Of a process that is gone by the time one looks, that alone tells which program it ran.
        """
        return self.mappings or self.follow or bool(self.comms or self.command)
