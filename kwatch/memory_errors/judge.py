# SPDX-License-Identifier: Apache-2.0
"""Decides whether a suspicious release is an error. What is not proved is unknown."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kwatch.memory_errors.probed_files import AllocatorFile, AllocatorFiles
from kwatch.memory_errors.suspects import Suspect, Suspicion
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.events import Chunk

_NEVER = 1 << 64

#: A period in which events were lost, in ns.
Interval = tuple[int, int]


class Doubt(enum.StrEnum):
    """Why a release could not be judged."""

    OLDER = "older"  # its allocation was not seen: the block may be from before the attach
    LOST = "lost"  # events were lost that may explain it
    UNPROBED = "unprobed"  # not everything that the heap did could be seen
    SKIPPED = "skipped"  # too many suspects at once
    THREAD_END = "thread_end"  # glibc empties the cache of a thread that ends
    NO_STACK = "no_stack"  # its stack was lost, which may be that of the end of a thread


class Proof(enum.StrEnum):
    """What makes a release an error."""

    FREED = "freed"
    INSIDE = "inside"
    STACK = "stack"
    MAPPED = "mapped"
    NO_BLOCK = "no_block"
    CHUNK_FREE = "chunk_free"
    KIND = "kind"
    ALLOCATOR = "allocator"


#: What the moment of the release proves by itself.
_OF_WORDS = (Proof.STACK, Proof.NO_BLOCK, Proof.CHUNK_FREE)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """`files`: those that are probed in the process. `gap`: something of its heap is not seen.

    `losses`: when events may have been lost. `tells_functions`: events name the function, not only
    its signature. `is_mapped`: whether the program itself, no allocator, has mapped the memory at
    an address.
    """

    files: Sequence[AllocatorFile]
    gap: bool
    losses: Sequence[Interval] = ()
    tells_functions: bool = True
    is_mapped: Callable[[int], bool] = lambda address: False


@dataclass(slots=True)
class Judge:
    all_files: AllocatorFiles = field(default_factory=AllocatorFiles)

    def judge(self, suspect: Suspect, state: ProcessState) -> Proof | Doubt | None:
        """None if the release is in order."""
        if suspect.suspicion is Suspicion.MISMATCHED:
            return self._of_mismatch(suspect, state)
        if suspect.suspicion is Suspicion.UNKNOWN:
            return self._of_unknown(suspect, state)
        doubt = self._doubt(suspect, state, self._probed_since(suspect, state))
        if doubt is not None:
            return doubt
        if suspect.suspicion is Suspicion.FREED:
            return Proof.FREED
        return self._of_inside(suspect, state)

    def is_lost(self, suspect: Suspect, proof: Proof, state: ProcessState) -> bool:
        """Whether a loss that was noticed later may explain what was proved."""
        return proof not in _OF_WORDS and _has_lost(suspect, state)

    def _of_inside(self, suspect: Suspect, state: ProcessState) -> Proof | Doubt:
        """An allocator may keep its blocks inside those of another one."""
        assert suspect.block is not None
        allocated = suspect.block.allocated
        if allocated is None:
            return Doubt.OLDER
        numbers = allocated.allocator, suspect.use.allocator
        is_only = len({each.path for each in state.files if not each.only_operators}) == 1
        is_same = self.all_files.is_same(*numbers) or is_only
        return Proof.INSIDE if is_same and not self.all_files.is_other(*numbers) else Doubt.OLDER

    def _of_unknown(self, suspect: Suspect, state: ProcessState) -> Proof | Doubt:
        """Where the address is tells, or the words around it, of which only glibc's are known."""
        file = self.all_files.by_number.get(suspect.use.allocator)
        if suspect.chunk & Chunk.ON_STACK and file is not None and file.is_standard:
            return Proof.STACK
        if not self._is_glibc(suspect, state):
            return Doubt.OLDER
        if suspect.chunk & Chunk.ON_STACK:
            return Proof.STACK
        is_whole = not state.gap and not state.losses
        if is_whole and not suspect.chunk & Chunk.IN_USE and state.is_mapped(suspect.address):
            return Proof.MAPPED
        if suspect.chunk & Chunk.INVALID:
            return Proof.NO_BLOCK
        return Proof.CHUNK_FREE if suspect.chunk & Chunk.FREE else Doubt.OLDER

    def _of_mismatch(self, suspect: Suspect, state: ProcessState) -> Proof | Doubt | None:
        assert suspect.block is not None
        assert suspect.block.allocated is not None
        allocated, freed = suspect.block.allocated, suspect.use
        kinds = {ALLOCATOR_FUNCTIONS[use.function].kind for use in (allocated, freed)}
        is_other = self.all_files.is_other(allocated.allocator, freed.allocator)
        if len(kinds) == 1 and not is_other:
            return None  # one file has several numbers
        if not state.tells_functions:
            return Doubt.UNPROBED
        if self.all_files.is_mixed(allocated.allocator, freed.allocator):
            return Doubt.UNPROBED
        since_ns = max((file.since_ns for file in state.files), default=_NEVER)
        doubt = self._doubt(suspect, state, since_ns)
        return doubt or (Proof.KIND if len(kinds) > 1 else Proof.ALLOCATOR)

    def _doubt(self, suspect: Suspect, state: ProcessState, since_ns: int) -> Doubt | None:
        """`since_ns`: blocks from before this prove nothing."""
        if state.gap:
            return Doubt.UNPROBED
        if _began_ns(suspect) < since_ns:
            return Doubt.OLDER
        return Doubt.LOST if _has_lost(suspect, state) else None

    def _probed_since(self, suspect: Suspect, state: ProcessState) -> int:
        """Since when all calls of the allocator have been seen."""
        number = suspect.use.allocator
        file = self.all_files.by_number.get(number)
        if file is None and number:
            return _NEVER  # the process has ended while the file was being probed
        files = state.files if file is None or file.only_operators else [file]
        return max((each.since_ns for each in files), default=_NEVER)

    def _is_glibc(self, suspect: Suspect, state: ProcessState) -> bool:
        file = self.all_files.by_number.get(suspect.use.allocator)
        if file is not None:
            return file.is_glibc or self._only_calls_glibc(file, state)
        return bool(state.files) and all(each.is_glibc for each in state.files)

    def _only_calls_glibc(self, file: AllocatorFile, state: ProcessState) -> bool:
        """A C++ library's operators call the C library, if that is the only other allocator."""
        others = [each for each in state.files if each.path != file.path]
        return file.only_operators and bool(others) and all(each.is_glibc for each in others)


def _began_ns(suspect: Suspect) -> int:
    return suspect.block.began_ns if suspect.block is not None else 0


def _has_lost(suspect: Suspect, state: ProcessState) -> bool:
    """Whether events were lost since its block began."""
    began_ns, used_ns = _began_ns(suspect), suspect.use.time_ns
    return any(start <= used_ns and end >= began_ns for start, end in state.losses)
