# SPDX-License-Identifier: Apache-2.0
"""Names the roots of a scan as a person would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kwatch.reach.holders import KernelRoot, RegisterRoot, Root
from kwatch.reach.regions import Region
from kwatch.reach.thread_state import ThreadState
from kwatch.symbols.variables import Place

_KINDS = {"[heap]": "the heap, in no block", "": "anonymous memory"}


class VariableFinder(Protocol):
    """See `kwatch.symbols.variables.Variables`."""

    def name(self, address: int) -> str: ...
    def place(self, address: int) -> Place | None: ...


#: The function whose frame on the stack of a thread, in a region, contains an address; or empty.
FrameFinder = Callable[[ThreadState, Region, int], str]


#: The thread in whose thread-local memory an address is; 0 if it is in none.
ThreadFinder = Callable[[int], int]


def _no_frame(thread: ThreadState, region: Region, address: int) -> str:
    return ""


def _no_thread(address: int) -> int:
    return 0


def root_name(
    root: Root,
    threads: Sequence[ThreadState],
    variables: VariableFinder,
    thread_at: ThreadFinder = _no_thread,
    function_at: FrameFinder = _no_frame,
) -> str:
    """One word or register."""
    if isinstance(root, RegisterRoot):
        return f"register {root.register} of thread {root.tid}"
    if isinstance(root, KernelRoot):
        return f"the kernel: {root.place}"
    if variable := variables.name(root.address):
        return variable
    thread = _stack_of(root.region, threads)
    if thread and (function := function_at(thread, root.region, root.address)):
        return f"the stack of thread {thread.tid}, in the frame of {function}"
    if owner := thread_at(root.address):
        return _thread_local(owner)
    if thread:
        above = root.address - (thread.stack_pointer or 0)
        return f"the stack of thread {thread.tid}, {above:#x} above its stack pointer"
    return _region_name(root.region)


def root_group(
    root: Root,
    threads: Sequence[ThreadState],
    variables: VariableFinder,
    thread_at: ThreadFinder = _no_thread,
) -> str:
    """What it belongs to: a variable as a whole, the stack or the registers of a thread."""
    if isinstance(root, RegisterRoot):
        return f"registers of thread {root.tid}"
    if isinstance(root, KernelRoot):
        return f"the kernel: {root.place}"
    if place := variables.place(root.address):
        return f"{place.variable} ({place.file})"
    if owner := thread_at(root.address):
        return _thread_local(owner)
    if thread := _stack_of(root.region, threads):
        return f"the stack of thread {thread.tid}"
    return _region_name(root.region)


def _thread_local(tid: int) -> str:
    return f"thread-local memory of thread {tid}"


def _region_name(region: Region) -> str:
    return _KINDS.get(region.path) or region.path


def _stack_of(region: Region, threads: Sequence[ThreadState]) -> ThreadState | None:
    """The thread whose stack is in a region; several may be in one without guard pages."""
    for thread in threads:
        if region.start <= (thread.stack_pointer or 0) < region.end:
            return thread
    return None
