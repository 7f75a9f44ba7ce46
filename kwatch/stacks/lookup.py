# SPDX-License-Identifier: Apache-2.0
"""Finds a stack by the id that its events carry."""

from __future__ import annotations

from kwatch.model.frame import Ending, Frame
from kwatch.processes.process import Process, Stacks
from kwatch.symbols.stack import Stack
from kwatch.wire import events
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.events import NoCallStack

_LOST = Stack(ending=Ending.LOST)
WITHOUT_STACK = {
    NoCallStack.LOST: Ending.LOST,
    NoCallStack.OFF: Ending.OFF,
    NoCallStack.UNSUPPORTED: Ending.UNSUPPORTED,
}


def stacks_of(process: Process, of_syscall: bool) -> Stacks:
    return process.call_stacks if of_syscall else process.heap_stacks


def alloc_stack(process: Process, identity: int) -> Stack:
    """The stack of an allocation; without stacks, the allocator function that was called."""
    if 0 < identity <= len(ALLOCATOR_FUNCTIONS):
        function = Frame(0, ALLOCATOR_FUNCTIONS[identity - 1].name)
        return Stack(ending=Ending.OFF, frames=(function,))
    return process.heap_stacks.find(identity) or _LOST


def mapping_stack(process: Process, identity: int) -> Stack:
    """The stack of a mapping that the program made; it is that of a traced system call if any."""
    if identity < events.STACK_IDS:
        return Stack(ending=Ending.OFF if identity == 0 else WITHOUT_STACK[NoCallStack(identity)])
    return process.heap_stacks.find(identity) or syscall_stack(process, identity)


def syscall_stack(process: Process, identity: int) -> Stack:
    """The stack of a system call; if there is none, its ending says why."""
    if identity < events.STACK_IDS:
        return Stack(ending=WITHOUT_STACK[NoCallStack(identity)])
    return process.call_stacks.find(identity) or _LOST
