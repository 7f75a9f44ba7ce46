# SPDX-License-Identifier: Apache-2.0
"""Turns batches of events into the state of a process, without clock, I/O or printing."""

from kwatch.aggregate.blocks import Blocks, LiveBlocks
from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.memory import MemoryAccount
from kwatch.aggregate.outstanding import Limits
from kwatch.aggregate.syscall_stacks import SyscallStackAccount
from kwatch.aggregate.syscalls import SyscallAccount

__all__ = [
    "Blocks",
    "HeapAccount",
    "Limits",
    "LiveBlocks",
    "MemoryAccount",
    "SyscallAccount",
    "SyscallStackAccount",
]
