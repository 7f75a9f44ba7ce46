# SPDX-License-Identifier: Apache-2.0
"""Reads what the traced processes use: when they join, now and then, and for each report.

A process that has ended cannot be read, so the last reading before its end counts. With few
processes, it is at most as old as half of the time that the process has been traced, or a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection

from kwatch.aggregate.stack_ages import stack_ages
from kwatch.ownership.process_growth import Quantity
from kwatch.ownership.stack_growth import AGE_PARTS, MAX_STACKS, StackGrowth
from kwatch.processes.process import Process
from kwatch.procfs.usage import read_usage

_FIRST_S, _MAX_S = 0.02, 1.0  # between readings; each is twice as long as the one before
_MAX_PROCESSES = 64  # read at a time; more take turns
_REST = 50  # the blocks are sampled again after this many times as long as a sample takes
_MAX_STACKS_SYSTEM_WIDE = 12  # followed in each process


class UsageWatch:
    """`processes`: the traced processes."""

    def __init__(self, processes: Collection[Process], system_wide: bool = False) -> None:
        self._processes = processes
        self._max_stacks = _MAX_STACKS_SYSTEM_WIDE if system_wide else MAX_STACKS
        self._next = math.inf
        self._next_samples = 0.0
        self._pause_s = _FIRST_S
        self._turn = 0  # the first process to be read next

    def read(self, process: Process) -> None:
        """Takes a reading of a process that has not ended, and a sample of its accounts."""
        self._read_usage(process)
        self._sample(process)

    def joined(self, process: Process) -> None:
        """Takes the first reading of a process; more follow soon."""
        self.read(process)
        self._next = time.monotonic() + _FIRST_S
        self._pause_s = _FIRST_S

    @property
    def seconds_left(self) -> float:
        """Until the next reading is due; infinite without processes."""
        return max(self._next - time.monotonic(), 0.0) if self._processes else math.inf

    def read_due(self) -> None:
        """Takes readings if it is time; cheap otherwise."""
        now = time.monotonic()
        if now < self._next:
            return
        processes = list(self._processes)
        self._turn %= max(len(processes), 1)
        chosen = processes[self._turn : self._turn + _MAX_PROCESSES]
        for process in chosen:
            self._read_usage(process)
        if now >= self._next_samples:
            started = time.thread_time()
            for process in chosen:
                self._sample(process)
            self._next_samples = now + _REST * (time.thread_time() - started)
        self._turn += _MAX_PROCESSES
        self._pause_s = min(2 * self._pause_s, _MAX_S)
        self._next = now + self._pause_s

    def _read_usage(self, process: Process) -> None:
        usage = None if process.facts.exited else read_usage(process.pid)
        if usage is None:
            return
        process.usage.add(usage)
        now_ns, growth = time.monotonic_ns(), process.growth
        growth.add(now_ns, Quantity.SHARED_BYTES, usage.shared)
        if process.heap is not None:
            unseen = usage.anonymous - process.heap.explained_bytes
            growth.add(now_ns, Quantity.UNSEEN_BYTES, unseen)
        if usage.descriptors is not None:
            growth.add(now_ns, Quantity.DESCRIPTORS, usage.descriptors)

    def _sample(self, process: Process) -> None:
        """Takes as long as a pass over all live blocks."""
        heap, memory, growth = process.heap, process.memory, process.growth
        if heap is None:
            return
        now_ns = process.ended_ns or time.monotonic_ns()
        blocks = heap.held_blocks()
        growth.add(now_ns, Quantity.HEAP_BYTES, int(blocks.sizes.sum()))
        growth.add(now_ns, Quantity.HEAP_BLOCKS, len(blocks.sizes))
        older_frees = heap.older_frees.count() if process.may_have_older_blocks else 0
        growth.add(now_ns, Quantity.OLDER_FREES, older_frees)
        if memory is not None:
            own = memory.snapshot()
            growth.add(now_ns, Quantity.OWN_BYTES, own.own_bytes)
            growth.add(now_ns, Quantity.OWN_MAPPINGS, own.own_mappings)
        if growth.stacks is None and len(blocks.stacks):
            growth.stacks = StackGrowth(self._max_stacks)
        if growth.stacks is not None:
            since_ns = growth.stacks.since_ns(now_ns)
            growth.stacks.add(now_ns, *stack_ages(blocks, since_ns, now_ns, AGE_PARTS))
