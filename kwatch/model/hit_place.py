# SPDX-License-Identifier: Apache-2.0
"""Accesses to watched memory, summed up by the place in the program that makes them."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from kwatch.model.frame import Ending, Frame


class Doubt(enum.StrEnum):
    """Why the instruction of a hit is not known."""

    NO_CODE = "no_code"  # its file cannot be read, or has no tables that say where functions begin
    JUMPED = "jumped"  # another instruction led here than the one before
    TWO = "two"  # the one before, or the one that repeats itself here
    CALLED = "called"  # a call led here, from where is not known
    IN_KERNEL = "in_kernel"


@dataclass(frozen=True, slots=True)
class Instruction:
    """`text`: in the processor's own syntax."""

    address: int
    text: str


@dataclass(slots=True, eq=False)
class HitPlace:
    """The hits with one instruction pointer and one stack.

    `name` is of what is watched, `access` is `w`, `rw` or `x`. `instruction`: None if `doubt` says
    why it is not known. `call`: the system call for which the kernel made the access, empty for
    others. `threads`: the hits of each thread. `time_ns`, `tid` and `value` are of the first hit;
    `value` is None where it was not read. Of a heap block: which
    `part` (kwatch.watchpoints.site), `block_size`, the id of the stack that
    has allocated it, and that stack's frames. `by_allocator`: inside malloc, free and the like.
    `unsure`: before each hit, events of the heap were lost that may have ended the block.
    """

    pid: int
    name: str
    address: int
    length: int
    access: str
    ip: int
    time_ns: int
    tid: int
    in_kernel: bool = False
    call: str = ""
    value: int | None = None
    instruction: Instruction | None = None
    doubt: Doubt | None = None
    frames: tuple[Frame, ...] = ()
    ending: Ending = Ending.LOST
    threads: Counter[int] = field(default_factory=Counter)
    part: str = ""
    block_size: int = 0
    block_stack: int = 0
    allocated: tuple[Frame, ...] = ()
    by_allocator: bool = False
    unsure: bool = False

    @property
    def is_expected(self) -> bool:
        """Whether the allocator does what it does with all memory that nobody owns."""
        return self.by_allocator and self.part in ("freed", "end")

    @property
    def count(self) -> int:
        return self.threads.total()
