# SPDX-License-Identifier: Apache-2.0
"""The code of a function around a call, and what it shows."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Code:
    """Code around a call: `data` begins at the virtual address `start`.

    `entry`: of the function, or None. `after`: of the instruction that the call returns to.
    `identities`: where calls lead to functions outside that return their first argument: to code,
    or through a slot.
    """

    machine: int
    start: int
    data: bytes
    entry: int | None
    after: int
    identities: Container[int] = frozenset()


class Shape(NamedTuple):
    """`sized_by_caller`: whether the callee's arguments come from the function's own ones.
    `returns_block`: whether the function returns what the callee has returned. None: unknown.
    """

    sized_by_caller: bool | None
    returns_block: bool | None

    @property
    def allocates_for_caller(self) -> bool:
        return bool(self.sized_by_caller and self.returns_block)
