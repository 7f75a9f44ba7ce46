# SPDX-License-Identifier: Apache-2.0
"""Groups stacks of a process that are equal after everything that is not code is cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kwatch.model.frame import Ending
from kwatch.processes.process import Process, Stacks
from kwatch.symbols.stack import Stack

_ById = Mapping[int, Stack]


class StackGroups:
    """Caches the groups, so that each stack is compared once.

    `stacks_of`: returns the stacks of a process that are grouped.
    """

    def __init__(self, stacks_of: Callable[[Process], Stacks]) -> None:
        self._stacks_of = stacks_of
        self._groups: dict[tuple[int, float], _Groups] = {}

    def of(self, process: Process) -> Callable[[Sequence[int]], list[int]]:
        """Returns a function that maps each stack id to the first one with the same code."""
        groups = self._groups.setdefault(_identity(process), _Groups())
        return lambda ids: groups.first(ids, self._stacks_of(process).by_id)

    def forget(self, process: Process) -> None:
        self._groups.pop(_identity(process), None)


class _Groups:
    def __init__(self) -> None:
        self._keys: dict[int, tuple[object, ...]] = {}
        self._first: dict[tuple[object, ...], int] = {}

    def first(self, ids: Sequence[int], stacks: _ById) -> list[int]:
        if len(self._keys) > 2 * len(stacks):  # an exec has removed the old stacks
            self._keys.clear()
            self._first.clear()
        return [self._first_of(stack, stacks) for stack in ids]

    def _first_of(self, stack: int, stacks: _ById) -> int:
        """A stack without code is a group of its own."""
        if stack not in stacks:
            return stack
        key = self._keys.get(stack)
        if key is None:
            key = self._keys[stack] = _key(stacks[stack])
        if not key:
            return stack
        first = self._first.setdefault(key, stack)
        if first not in stacks:
            first = self._first[key] = stack
        return first


def _key(stack: Stack) -> tuple[object, ...]:
    """What equal stacks share; empty without code. Places, since libraries may reuse addresses."""
    if not stack.addresses:
        return ()
    whole = stack.ending in (Ending.COMPLETE, Ending.FINISHED)
    return (*(call.place for call in stack.addresses), "" if whole else stack.ending)


def _identity(process: Process) -> tuple[int, float]:
    return process.pid, process.facts.start_time
