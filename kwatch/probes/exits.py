# SPDX-License-Identifier: Apache-2.0
"""Finds the return instructions of functions, and functions that only jump to others.

Jumps are followed, so the returns of a function that ends in a tail call are found in the other
one. If that is memset or the like, which all of a program calls, the jump itself is the exit:
memset returns its first argument. A path ends where the next function begins, because the call
before it does not return (abort, _Unwind_Resume, __cxa_throw).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container
from typing import NamedTuple

from kwatch.elf.elf import Elf, Function
from kwatch.elf.function_starts import function_starts
from kwatch.elf.identities import Identities
from kwatch.elf.linkage_table import through_slot
from kwatch.probes.instructions import (
    UNKNOWN,
    is_return,
    jump_target,
    never_goes_on,
    straight_line,
)

_MAX_INSTRUCTIONS = 20_000  # followed in search of a function's returns


class Exit(NamedTuple):
    """`offset`: in the file. `result_in_argument`: the result is what the first argument is."""

    offset: int
    result_in_argument: bool = False


class ExitFinder:
    """Reads what all functions of a file share once. Every method may raise ElfError."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._slots = elf.slot_targets()
        self._starts = function_starts(elf)
        self._identities = Identities(elf, keeps_symbols=True)

    def exits(self, function: Function) -> tuple[Exit, ...] | None:
        """The function's exits; None if not all are known."""
        found: set[tuple[int, bool]] = set()
        seen: set[int] = set()
        pending = [function.vaddr]
        while pending:
            start = through_slot(self._elf, pending.pop(), self._slots)
            end = self._end_of(start)
            for instruction in straight_line(self._elf, start):
                address = instruction.address
                if address in seen or address >= end:
                    break
                seen.add(address)
                if is_return(instruction):
                    found.add((address, False))
                    break
                target = jump_target(instruction)
                if target == UNKNOWN or len(seen) > _MAX_INSTRUCTIONS:
                    return None
                if target is not None and target in self._identities:
                    found.add((address, True))
                elif target is not None:
                    if self._elf.offset_of(target) is None:
                        return None
                    pending.append(target)
                if never_goes_on(instruction):
                    break
        offsets = [(self._elf.offset_of(at), is_argument) for at, is_argument in sorted(found)]
        return tuple(Exit(at, is_argument) for at, is_argument in offsets if at) or None

    def forwards_to(self, function: Function, others: Container[int]) -> bool:
        """Whether the function is nothing but a jump to one of these virtual addresses."""
        first = next(straight_line(self._elf, function.vaddr), None)
        target = jump_target(first) if first is not None and never_goes_on(first) else None
        return target is not None and through_slot(self._elf, target, self._slots) in others

    def _end_of(self, address: int) -> int:
        """Where the next function begins, as far as the file says where functions begin."""
        index = bisect_right(self._starts, address)
        return self._starts[index] if index < len(self._starts) else 1 << 64
