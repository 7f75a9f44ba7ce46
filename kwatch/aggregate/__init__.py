# SPDX-License-Identifier: Apache-2.0
"""Batches of events in, the state of a process out: no clock, no I/O, no printing."""

from kwatch.aggregate.blocks import Blocks, LiveBlocks
from kwatch.aggregate.call_stacks import CallStackAccount
from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.memory import MemoryAccount
from kwatch.aggregate.outstanding import Limits
from kwatch.aggregate.syscalls import SyscallAccount

__all__ = [
    "Blocks",
    "CallStackAccount",
    "HeapAccount",
    "Limits",
    "LiveBlocks",
    "MemoryAccount",
    "SyscallAccount",
]
