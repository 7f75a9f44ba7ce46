# SPDX-License-Identifier: Apache-2.0
"""What a thread has in its registers."""

from __future__ import annotations

from typing import NamedTuple

from kwatch.aggregate.order import U64
from kwatch.kernel.registers import registers


class ThreadState(NamedTuple):
    """The general-purpose registers of a thread, by `names`, the stack pointer among them.

    `stack_pointer` is None if it is not known: then the whole stack may be in use. Without
    `has_registers`, the thread may hold pointers that nobody knows.
    """

    tid: int
    registers: U64
    stack_pointer: int | None
    names: tuple[str, ...]
    has_registers: bool = True


def state_of(tid: int, values: U64) -> ThreadState:
    """`values`: those of the machine's registers, in order."""
    wanted = registers()
    stack_pointer = int(values[wanted.names.index(wanted.stack_pointer)])
    return ThreadState(tid, values, stack_pointer or None, wanted.names)
