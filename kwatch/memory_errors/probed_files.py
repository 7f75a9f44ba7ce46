# SPDX-License-Identifier: Apache-2.0
"""What a judgement needs to know of the files whose functions are probed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath

_GLIBC = re.compile(r"libc(-2\.\d+\.so|\.so\.6)")


@dataclass(frozen=True, slots=True)
class AllocatorFile:
    """`is_mixed`: see kwatch.probes.finder.Allocator. `only_operators`: its functions are those of
    C++, which call the ones of C. `since_ns`: when all of it was probed. `is_standard`: all its
    functions have the names of the standards, so that no pool of a program is among them.
    """

    path: str
    is_mixed: bool
    only_operators: bool
    since_ns: int
    is_standard: bool = True

    @property
    def is_glibc(self) -> bool:
        return _GLIBC.fullmatch(PurePath(self.path).name) is not None


@dataclass(slots=True)
class AllocatorFiles:
    """Those of all processes by number: a block may be from before a fork."""

    by_number: dict[int, AllocatorFile] = field(default_factory=dict)

    def is_other(self, one: int, another: int) -> bool:
        """Whether two numbers are known to stand for different files."""
        found = [self.by_number.get(number) for number in (one, another)]
        return None not in found and len({file.path for file in found if file}) > 1

    def is_same(self, one: int, another: int) -> bool:
        """Whether two numbers are known to stand for the same file."""
        is_known = one in self.by_number and another in self.by_number
        return is_known and not self.is_other(one, another)

    def is_mixed(self, *numbers: int) -> bool:
        found = map(self.by_number.get, numbers)
        return any(file.is_mixed for file in found if file)
