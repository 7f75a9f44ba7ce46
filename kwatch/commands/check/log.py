# SPDX-License-Identifier: Apache-2.0
"""The errors of a run: counts those with the same stacks, and names the stacks of the first."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kwatch.commands.check.process_states import ProcessStates
from kwatch.commands.check.stacks import StackSource, doubt_of, function_name
from kwatch.commands.check.variables import variable_at
from kwatch.commands.check.words import kind_of, message_of
from kwatch.memory_errors.judge import Doubt, Judge, Proof
from kwatch.memory_errors.suspects import Suspect, Use
from kwatch.model.frame import Frame
from kwatch.model.heap_error import CheckSummary, ErrorStack, HeapError, StackRole
from kwatch.model.snapshot import Lost
from kwatch.processes.process import Process
from kwatch.session.loss_periods import LATE_NS
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.targets.processes import utc_now
from kwatch.wire.events import STACK_IDS

_STACK_S = 2.0  # a stack that has not arrived after this time is lost
_Key = tuple[int, Proof, int, tuple[int, ...]]
_Named = list[tuple[Frame, ...]]


@dataclass(slots=True)
class _Entry:
    """An error that waits for its stacks, or has been printed. `uses`: of its stacks.

    `time`, `elapsed_s`: when it was found. `doubt`: why it may be none, after all.
    """

    process: Process
    suspect: Suspect
    proof: Proof
    uses: list[tuple[StackRole, Use]]
    since: float
    time: str
    elapsed_s: float
    count: int = 1
    stacks: list[Stack] = field(default_factory=list)
    error: HeapError | None = None
    doubt: Doubt | None = None


class ErrorLog:
    """`stacks` finds the stacks of releases and allocations; the thread names them."""

    def __init__(
        self, states: ProcessStates, stacks: StackSource, thread: SymbolizerThread
    ) -> None:
        self._states = states
        self._judge = Judge(states.all_files)
        self._stacks = stacks
        self._thread = thread
        self._entries: dict[_Key, _Entry] = {}
        self._waiting: list[_Entry] = []
        self._named: deque[tuple[_Entry, _Named]] = deque()
        self._ended: set[int] = set()  # identities of processes
        self._doubts: dict[int, Counter[Doubt]] = {}  # by the identity of the process
        self._started = time.monotonic()
        self._in_hurry = False
        self.errors = 0

    def look(self, process: Process) -> None:
        """Judges what the process has released since the last time."""
        checks = process.accounts.checks
        suspects = checks.take() if checks is not None else []
        state = self._states.of(process) if suspects else None
        doubts = self._doubts.setdefault(id(process), Counter())
        for suspect in suspects:
            assert state is not None
            verdict = self._judge.judge(suspect, state)
            if isinstance(verdict, Proof):
                self._add(process, suspect, verdict)
            elif verdict is not None:
                doubts[verdict] += 1

    def ask_names(self, ended: Process | None = None) -> None:
        """Lets the thread name the stacks that have arrived. No more arrive of `ended`."""
        if ended is not None:
            self._ended.add(id(ended))
        now, still = time.monotonic(), []
        for entry in self._waiting:
            is_late = now - entry.since >= _STACK_S or entry.process is ended
            entry.stacks = [self._stacks.find(entry.process, *each) for each in entry.uses]
            if is_late or all(map(self._stacks.has_arrived, entry.stacks)):
                self._thread.submit(partial(_name, entry, self._named), urgent=True)
            else:
                still.append(entry)
        self._waiting = still

    def check(self, in_hurry: bool) -> None:
        """Raises what the thread has raised. In a hurry, the rest gets no names."""
        self._thread.check()
        if in_hurry:
            self._in_hurry = True
            self._thread.hurry()

    def take_named(self) -> list[HeapError]:
        """The new errors whose stacks have names now, and which no late loss can explain."""
        found, young = [], []
        while self._named:
            entry, names = self._named.popleft()
            entry.doubt = self._doubt_of(entry, names[0])
            if entry.doubt is None and self._is_young(entry):
                young.append((entry, names))
                continue
            if entry.doubt is None and self._is_lost(entry):
                entry.doubt = Doubt.LOST
            if entry.doubt is None:
                self.errors += 1
                entry.error = self._error(entry, names)
                found.append(entry.error)
        self._named.extend(young)
        return found

    def is_done(self, process: Process) -> bool:
        """Whether every error of the process has its names."""
        own = (entry for entry in self._entries.values() if entry.process is process)
        return all(entry.error is not None or entry.doubt is not None for entry in own)

    def summary(self, process: Process, lost: Lost) -> CheckSummary:
        """The result for a process of which nothing more comes. What is known of it is dropped."""
        checks = process.accounts.checks
        doubts = self._doubts.pop(id(process), Counter())
        own = {key: entry for key, entry in self._entries.items() if entry.process is process}
        for key, entry in own.items():
            del self._entries[key]
            if entry.doubt is not None:
                doubts[entry.doubt] += entry.count
        if checks is not None and checks.skipped:
            doubts[Doubt.SKIPPED] = checks.skipped
        self._states.forget(process)
        self._ended.discard(id(process))
        return CheckSummary(
            utc_now(),
            self._elapsed(),
            process.facts,
            tuple(filter(None, map(_counted, own.values()))),
            checks.releases if checks is not None else 0,
            {doubt.value: count for doubt, count in sorted(doubts.items())},
            lost,
        )

    def _add(self, process: Process, suspect: Suspect, proof: Proof) -> None:
        uses = list(_uses(suspect))
        stacks = tuple(use.stack for _, use in uses)
        # Where a stack is not known, others cannot be the same: only the address tells.
        address = suspect.address if min(stacks) < STACK_IDS else 0
        key = (id(process), proof, address, stacks)
        known = self._entries.get(key)
        if known is not None and known.doubt is not Doubt.LOST:
            known.count += 1
            return
        if known is not None:
            self._doubts[id(process)][Doubt.LOST] += known.count
        entry = _Entry(process, suspect, proof, uses, time.monotonic(), utc_now(), self._elapsed())
        self._entries[key] = entry
        self._waiting.append(entry)

    def _doubt_of(self, entry: _Entry, frames: Sequence[Frame]) -> Doubt | None:
        """In a hurry, the end of a thread in a static program has no name that tells."""
        doubt = doubt_of(entry.proof, frames, entry.stacks[0].ending)
        if doubt is not None or entry.proof is not Proof.FREED or not self._in_hurry:
            return doubt
        allocators = {file.path for file in self._states.all_files.by_number.values()}
        is_nameless = not frames[0].symbol and frames[0].module in allocators
        return Doubt.NO_STACK if is_nameless else None

    def _is_young(self, entry: _Entry) -> bool:
        """Whether a loss may still be noticed that explains the release."""
        is_over = id(entry.process) in self._ended
        return not is_over and time.monotonic_ns() < entry.suspect.use.time_ns + LATE_NS

    def _is_lost(self, entry: _Entry) -> bool:
        state = self._states.of(entry.process)
        return self._judge.is_lost(entry.suspect, entry.proof, state)

    def _error(self, entry: _Entry, named: _Named) -> HeapError:
        suspect = entry.suspect
        is_elsewhere = entry.proof is Proof.NO_BLOCK
        variable = variable_at(entry.process, suspect.address) if is_elsewhere else ""
        stacks = tuple(
            ErrorStack(role, function_name(use), use.tid, frames, stack.ending)
            for (role, use), frames, stack in zip(entry.uses, named, entry.stacks, strict=True)
        )
        return HeapError(
            self.errors,
            entry.time,
            entry.elapsed_s,
            entry.process.facts,
            kind_of(entry.proof),
            entry.proof.value,
            message_of(suspect, entry.proof, variable),
            suspect.address,
            suspect.use.tid,
            entry.count,
            stacks,
        )

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started, 3)


def _counted(entry: _Entry) -> HeapError | None:
    """The error with its count, if the entry is one."""
    if entry.error is not None:
        entry.error.count = entry.count
    return entry.error


def _uses(suspect: Suspect) -> Iterable[tuple[StackRole, Use]]:
    yield StackRole.USE, suspect.use
    if suspect.block is None:
        return
    if suspect.block.freed is not None:
        yield StackRole.FREED, suspect.block.freed
    if suspect.block.allocated is not None:
        yield StackRole.ALLOCATED, suspect.block.allocated


def _name(entry: _Entry, named: deque[tuple[_Entry, _Named]], symbolizer: Symbolizer) -> None:
    named.append((entry, symbolizer.frames(entry.stacks)))
