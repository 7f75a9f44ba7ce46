# SPDX-License-Identifier: Apache-2.0
"""Errors in the use of the heap, as `kwatch check` reports them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from kwatch.model.frame import Ending, Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Lost


class ErrorKind(enum.StrEnum):
    INVALID_FREE = "invalid_free"
    MISMATCHED_FREE = "mismatched_free"


#: In valgrind's words.
TITLES = {
    ErrorKind.INVALID_FREE: "Invalid free() / delete / delete[] / realloc()",
    ErrorKind.MISMATCHED_FREE: "Mismatched free() / delete / delete []",
}


class StackRole(enum.StrEnum):
    USE = "use"
    FREED = "freed"
    ALLOCATED = "allocated"


@dataclass(frozen=True, slots=True)
class ErrorStack:
    """`function`: what was called, from the first of the frames. `tid`: the thread."""

    role: StackRole
    function: str
    tid: int
    frames: tuple[Frame, ...]
    ending: Ending


@dataclass(slots=True)
class HeapError:
    """One error with all that have the same stacks, which `count` counts.

    `time` and `elapsed_s`: of the first. `reason`: what proves it. `message`: what the address is.
    `stacks`: the use, then, where they are known, how the block was freed and allocated.
    """

    id: int
    time: str
    elapsed_s: float
    process: ProcessFacts
    error: ErrorKind
    reason: str
    message: str
    address: int
    tid: int
    count: int
    stacks: tuple[ErrorStack, ...]


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """The result for a process that has ended, or at the end of the run.

    `releases`: how many calls were checked. `unknown`: how many of them could not be judged, by
    reason. `lost`: events that were lost, which may hide errors.
    """

    time: str
    elapsed_s: float
    process: ProcessFacts
    errors: tuple[HeapError, ...]
    releases: int
    unknown: Mapping[str, int] = field(default_factory=dict)
    lost: Lost = field(default_factory=Lost)
