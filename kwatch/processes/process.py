# SPDX-License-Identifier: Apache-2.0
"""One traced process: its facts, accounts, mappings and stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.memory import MemoryAccount
from kwatch.aggregate.usage import UsageAccount
from kwatch.model.frame import Ending
from kwatch.model.process import ProcessFacts
from kwatch.ownership.process_growth import ProcessGrowth
from kwatch.probes.coverage import Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.heap_scan import HeapScan
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping
from kwatch.symbols.stack import Stack

_END_OF_32_BITS = 1 << 32


@dataclass(slots=True)
class Stacks:
    """Stacks by id, and the number of distinct stacks by ending.

    `unfinished`: the known part of stacks that wait for tables.
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
class CodeState:
    """The code mappings of a process.

    `mm_id` identifies the address space for the BPF programs; 0 while it is unknown. `unmaps`
    counts how often code was unmapped, `epoch` how often addresses changed their meaning.
    `reread_ns`: when the mappings were last read from /proc; older records are ignored.
    """

    space: AddressSpace = field(default_factory=AddressSpace)
    mm_id: int = 0
    unmaps: int = 0
    epoch: int = 0
    reread_ns: int = 0

    def map(self, code: Iterable[Mapping]) -> None:
        """Adds mapped code, which may cover other code."""
        covered = [self.space.add(mapping) for mapping in code]
        self.epoch += any(covered)

    def unmap(self, start: int, end: int) -> None:
        """Removes a range that was unmapped or mapped over."""
        self.space.remove(start, end)
        self.epoch += 1

    def begin_exec(self) -> None:
        """Begins a new, empty address space at an exec."""
        self.space.clear()
        self.mm_id = self.unmaps = self.epoch = self.reread_ns = 0

    def restart(self, mm_id: int, unmaps: int) -> None:
        """Clears the mappings, to be read again; `unmaps` is the kernel's count."""
        self.epoch += max(unmaps - self.unmaps, 0) + 1
        self.mm_id, self.unmaps = mm_id, unmaps
        self.space.clear()


@dataclass(slots=True)
class ExecState:
    """`before_exec`: the old facts during an exec. `awaits_program`: the exec has not mapped the
    new program yet. `replaced`: an exec has replaced a target with a program that is not traced.
    """

    before_exec: ProcessFacts | None = None
    awaits_program: bool = False
    replaced: bool = False

    def begin(self, before: ProcessFacts) -> None:
        self.before_exec, self.awaits_program = before, True

    def end(self) -> None:
        self.before_exec, self.awaits_program = None, False


@dataclass(slots=True)
class Process:
    """One process: a pid and a start time. `slot` is its index in accounts for all processes.

    Times are on the clock of the events. `forked_ns`: older blocks are inherited from the parent.
    `attached_ns`: older records predate the state that kwatch read from /proc. `ended_ns`: when the
    process ended; 0 if it has not ended or the time is unknown.
    `from_exec`: the program has been traced since its exec. `knows_inherited`: its parent was, so
    the blocks that it inherited are known. `ended_threads`: known after its end.
    `parent`: the pid of the process that has forked it; 0 if its fork was not seen.
    `shares`: the pid of the process whose memory it shares, and so its heap, until its exec; 0: it
    has its own.
    `heap_scan`: the last scan of its heap; None before the first.
    """

    facts: ProcessFacts
    slot: int
    coverage: Coverage
    accounts: Accounts = field(default_factory=Accounts)
    usage: UsageAccount = field(default_factory=UsageAccount)
    growth: ProcessGrowth = field(default_factory=ProcessGrowth)
    code: CodeState = field(default_factory=CodeState)
    exec_state: ExecState = field(default_factory=ExecState)
    from_exec: bool = False
    knows_inherited: bool = False
    ended_threads: int = 0
    forked_ns: int = 0
    attached_ns: int = 0
    ended_ns: int = 0
    parent: int = 0
    shares: int = 0
    heap_scan: HeapScan | None = None
    heap_stacks: Stacks = field(default_factory=Stacks)
    call_stacks: Stacks = field(default_factory=Stacks)

    @property
    def pid(self) -> int:
        return self.facts.pid

    @property
    def heap(self) -> HeapAccount | None:
        return self.accounts.heap

    @property
    def memory(self) -> MemoryAccount | None:
        return self.accounts.memory

    @property
    def has_32_bits(self) -> bool:
        """Whether it runs 32-bit code: a 64-bit process has its vdso above 4 GiB."""
        space = self.code.space
        return len(space) > 0 and all(m.end <= _END_OF_32_BITS for m in space)

    @property
    def may_have_older_blocks(self) -> bool:
        """Whether some of its blocks may be from before the attach."""
        return not (self.from_exec or self.knows_inherited)

    def inherit(self, parent: Process, forked_ns: int) -> None:
        """Copies the state of the parent, except for its system calls."""
        self.forked_ns = forked_ns
        self.coverage.is_forked = True
        self.knows_inherited = not parent.may_have_older_blocks
        self.code.space, self.code.epoch = parent.code.space.copy(), parent.code.epoch
        self.heap_stacks = parent.heap_stacks.copy()
        self.accounts = parent.accounts.fork()

    def share(self, owner: int, forked_ns: int) -> None:
        """The process runs in the memory of another one: it has no heap of its own."""
        self.shares, self.forked_ns = owner, forked_ns
        self.accounts = Accounts()
        self.heap_stacks.clear()

    def unshare(self, accounts: Accounts) -> None:
        """Its exec gives it a memory of its own."""
        self.shares, self.accounts = 0, accounts

    def forget_heap(self) -> None:
        """Clears the heap, which an exec has replaced."""
        self.heap_stacks.clear()
        self.forked_ns = 0
        self.heap_scan = None
        self.from_exec = True
        self.accounts.exec()
        self.usage.exec()
        self.growth.exec()
