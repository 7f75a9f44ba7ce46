# SPDX-License-Identifier: Apache-2.0
"""The stacks of releases and allocations, and what they say of a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kwatch.memory_errors.judge import Doubt, Proof
from kwatch.memory_errors.suspects import Use
from kwatch.model.c_library import is_c_library
from kwatch.model.frame import Ending, Frame
from kwatch.model.heap_error import StackRole
from kwatch.processes.process import Process
from kwatch.stacks.lookup import alloc_stack
from kwatch.stacks.reader import StackReader
from kwatch.symbols.demangle.demangle import demangle
from kwatch.symbols.stack import Stack
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS

#: A stack that begins at the caller of free is whole if it ends like this.
_WHOLE = (Ending.COMPLETE, Ending.FINISHED)
#: In a static program, where files do not tell: glibc's functions that free a thread's cache.
_THREAD_END = frozenset(["__malloc_arena_thread_freeres", "tcache_thread_shutdown"])


@dataclass(frozen=True, slots=True)
class StackSource:
    """`of_frees`: frees carry the id of their stack; otherwise, the address of their caller."""

    reader: StackReader
    of_frees: bool

    def find(self, process: Process, role: StackRole, use: Use) -> Stack:
        if role is StackRole.ALLOCATED or self.of_frees:
            return alloc_stack(process, use.stack)
        return self.reader.single_frame(process, use.stack)

    def has_arrived(self, stack: Stack) -> bool:
        return stack.ending is not Ending.LOST


def function_name(use: Use) -> str:
    """As people write it: `operator delete[](void*)`."""
    return demangle(ALLOCATOR_FUNCTIONS[use.function].name)


def doubt_of(proof: Proof, frames: Sequence[Frame], ending: Ending) -> Doubt | None:
    """Whether glibc empties the cache of a thread that ends, or may: no stack shows a caller.

    tcache_thread_shutdown() passes each block to free() again (glibc malloc/malloc.c).
    """
    if proof is not Proof.FREED:
        return None
    if not frames:
        return Doubt.NO_STACK
    return Doubt.THREAD_END if _is_thread_end(frames, ending) else None


def _is_thread_end(frames: Sequence[Frame], ending: Ending) -> bool:
    """Whether no function of the program has called."""
    if frames[0].symbol.partition(".")[0] in _THREAD_END:
        return True
    is_whole = ending in (*_WHOLE, Ending.OFF, Ending.NO_ROW)
    return is_whole and all(map(is_c_library, frames))
