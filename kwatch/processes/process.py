# SPDX-License-Identifier: Apache-2.0
"""One traced process: its facts, accounts, mappings and stacks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.memory import MemoryAccount
from kwatch.model.frame import Ending
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.procfs.address_space import AddressSpace
from kwatch.symbols.stack import Stack

_END_OF_32_BITS = 1 << 32


@dataclass(slots=True)
class Stacks:
    """Stacks by id, and how many distinct ones of each ending have been seen.

    `unfinished`: what is known of stacks that wait for tables.
    """

    by_id: dict[int, Stack] = field(default_factory=dict)
    endings: Counter[Ending] = field(default_factory=Counter)
    unfinished: dict[int, Stack] = field(default_factory=dict)

    def add(self, identity: int, stack: Stack) -> None:
        self.unfinished.pop(identity, None)
        self.endings[stack.ending] += identity not in self.by_id
        self.by_id[identity] = stack

    def find(self, identity: int) -> Stack | None:
        return self.by_id.get(identity) or self.unfinished.get(identity)

    def copy(self) -> Stacks:
        return Stacks(dict(self.by_id), self.endings.copy(), dict(self.unfinished))

    def clear(self) -> None:
        self.by_id.clear()
        self.endings.clear()
        self.unfinished.clear()


@dataclass(slots=True)
class Process:
    """One process, a pid with a start time. `slot` is its index in the accounts of system calls.

    `forked_ns`, on the clock of the events: blocks that are older came with the fork. `mm_id`
    names the address space as the BPF programs do, 0 while it is not known; `unmaps` counts how
    often its code was unmapped, `epoch` how often addresses changed their meaning. `reread_ns`:
    when its mappings were read anew; what older records say of them is known. `attached_ns`: what
    is older happened before kwatch looked at the process itself. `before_exec`: the facts while an
    exec is under way. `awaits_program`: it has mapped nothing of its new image so far. `replaced`:
    an exec has made another program of a target. `ended_ns`: when it ended, 0 if it has not, or if
    that is not known.
    """

    facts: ProcessFacts
    slot: int
    coverage: Coverage
    heap: HeapAccount | None = None
    memory: MemoryAccount | None = None
    space: AddressSpace = field(default_factory=AddressSpace)
    forked_ns: int = 0
    mm_id: int = 0
    unmaps: int = 0
    epoch: int = 0
    reread_ns: int = 0
    attached_ns: int = 0
    ended_ns: int = 0
    before_exec: ProcessFacts | None = None
    awaits_program: bool = False
    replaced: bool = False
    heap_stacks: Stacks = field(default_factory=Stacks)
    call_stacks: Stacks = field(default_factory=Stacks)

    @property
    def pid(self) -> int:
        return self.facts.pid

    @property
    def has_32_bits(self) -> bool:
        """Whether it runs 32-bit code: every 64-bit process has its vdso above that."""
        return len(self.space) > 0 and all(m.end <= _END_OF_32_BITS for m in self.space)

    def inherit(self, parent: Process, forked_ns: int) -> None:
        """Begins as a copy of the process that has forked it, but for what that has called."""
        self.forked_ns = forked_ns
        self.space, self.epoch = parent.space.copy(), parent.epoch
        self.heap_stacks = parent.heap_stacks.copy()
        if parent.heap is not None and parent.memory is not None:
            self.heap, self.memory = parent.heap.fork(), parent.memory.fork()

    def forget_heap(self) -> None:
        """An exec has taken it away."""
        self.heap_stacks.clear()
        self.forked_ns = 0
        if self.heap is not None and self.memory is not None:
            self.heap.exec()
            self.memory.exec()
