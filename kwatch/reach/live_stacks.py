# SPDX-License-Identifier: Apache-2.0
"""Which part of the stacks of a process is in use. Below the stack pointer, old values remain."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kwatch.aggregate.order import U64
from kwatch.reach.regions import Region

#: The System V ABI lets a function of x86-64 use 128 bytes below the stack pointer.
_RED_ZONE = 128
#: Larger memory without access is reserved, as by an arena of glibc, and is no guard of a stack.
_MAX_GUARD = 1 << 20


class Thread(Protocol):
    """What a scan needs to know of a thread. `registers` and `names` are parallel.

    `stack_pointer` is None if it is not known; the whole stack counts then.
    """

    @property
    def tid(self) -> int: ...
    @property
    def registers(self) -> U64: ...
    @property
    def stack_pointer(self) -> int | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class StackRegion:
    """A mapping with a stack. `start`: the lowest word that is in use."""

    region: Region
    start: int


def live_stacks(regions: Sequence[Region], threads: Sequence[Thread]) -> Iterator[StackRegion]:
    """The mappings that are surely stacks from their lower end on: the kernel's `[stack]`, and
    memory with a guard below in which a stack pointer is.

    The part below the lowest stack pointer is not in use. A thread that runs on an alternate signal
    stack or a coroutine's has its stack pointer elsewhere; its own stack then counts as a whole. So
    does every stack but the main one if some stack pointer is not known: it may be lower.
    """
    known = (thread.stack_pointer for thread in threads)
    pointers = sorted(pointer for pointer in known if pointer is not None)
    all_known = len(pointers) == len(threads)
    below: Region | None = None
    for region in regions:
        lowest = bisect_left(pointers, region.start)
        inside = lowest < len(pointers) and pointers[lowest] < region.end
        is_main = region.path == "[stack]"
        if is_main or (inside and _is_guard(below, region)):
            start = region.start
            if inside and (is_main or all_known):
                start = max(start, (pointers[lowest] - _RED_ZONE) & ~7)
            yield StackRegion(region, start)
        below = region


def _is_anonymous(region: Region) -> bool:
    is_named = region.path.startswith("[anon:")  # by PR_SET_VMA_ANON_NAME
    return not region.inode and not region.is_shared and (is_named or not region.path)


def _is_guard(below: Region | None, region: Region) -> bool:
    return (
        below is not None
        and below.end == region.start
        and below.permissions == "---p"
        and below.size <= _MAX_GUARD
        and _is_anonymous(below)
        and _is_anonymous(region)
    )
