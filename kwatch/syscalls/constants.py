# SPDX-License-Identifier: Apache-2.0
"""Sets of named constants: flags that are combined, and enumerations, per ABI."""

from __future__ import annotations

import functools
from typing import NamedTuple

from kwatch.syscalls.data_files import by_name, rows
from kwatch.wire.events import Abi


class Constant(NamedTuple):
    """A name for these bits of a value; a single flag has all bits of its mask."""

    mask: int
    value: int
    name: str


class ConstantSet(NamedTuple):
    #: "flags", "enum" or "mode"
    kind: str
    #: bits of the argument that count
    width: int
    #: the comment on an unknown value, such as `O_???`; or `octal`, `signal`, `value`
    unknown: str
    constants: tuple[Constant, ...]


@functools.cache
def constants(name: str, abi: Abi) -> ConstantSet | None:
    """The set as the ABI has it; None if there is no set of this name."""
    found = by_name("constants").get(name)
    if found is None:
        return None
    chosen = found[0]
    for row in found:
        if row[0] == "*" or abi.name.lower() in row[0].split(","):
            chosen = row
            if row[0] != "*":
                break
    _, kind, unknown, listed = chosen
    return ConstantSet(kind[:-2], int(kind[-2:]), unknown, tuple(map(_constant, listed.split())))


@functools.cache
def numbers(name: str, abi: Abi) -> dict[str, int]:
    """The values of a set by name."""
    found = constants(name, abi)
    return {one.name: one.value for one in found.constants} if found else {}


@functools.cache
def ioctl_names(abi: Abi) -> dict[int, str]:
    """The names of requests of ioctl(2); several with one number are joined as strace does."""
    narrow = abi in (Abi.I386, Abi.X32, Abi.ARM)
    found: dict[int, str] = {}
    for wide, other, name in rows("ioctls"):
        number = int(other if narrow and other else wide, 16)
        found[number] = f"{found[number]} or {name}" if number in found else name
    return found


@functools.cache
def ioctl_numbers(abi: Abi) -> dict[str, int]:
    """The numbers of requests of ioctl(2) by name."""
    narrow = abi in (Abi.I386, Abi.X32, Abi.ARM)
    return {
        name: int(other if narrow and other else wide, 16) for wide, other, name in rows("ioctls")
    }


def _constant(cell: str) -> Constant:
    name, _, text = cell.partition("=")
    value, _, mask = text.partition("/")
    number = int(value, 16)
    return Constant(int(mask, 16) if mask else number, number, name)
