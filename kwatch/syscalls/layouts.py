# SPDX-License-Identifier: Apache-2.0
"""Layouts of the structures that calls read and write: sizes and offsets per ABI."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from kwatch.syscalls.data_files import by_name
from kwatch.wire.events import Abi

_ARRAYS = frozenset({"fsid", "ulongs", "chars"})
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}


class Member(NamedTuple):
    """A member with its offset and size in bytes; `...` and `|` are marks without a place."""

    name: str
    offset: int = 0
    size: int = 0
    is_signed: bool = False
    #: how it is shown, "" for a number
    kind: str = ""

    @property
    def format(self) -> str:
        """For `struct`: a number, or bytes."""
        code = _CODES.get(self.size)
        if code is None or _is_aggregate(self.kind):
            return f"{self.size}s"
        return code if self.is_signed else code.upper()


class Layout(NamedTuple):
    name: str
    #: bytes of the whole structure
    size: int
    members: tuple[Member, ...]

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def reader(self, *names: str) -> tuple[int, Callable[[bytes], tuple[Any, ...]]]:
        """Bytes that the members need, and a function that reads them all at once.

        The values come in the order of the members' offsets.
        """
        chosen = sorted((self.member(name) for name in names), key=lambda member: member.offset)
        form, at = "<", 0
        for member in chosen:
            form += f"{member.offset - at}x{member.format}"
            at = member.offset + member.size
        return at, struct.Struct(form).unpack_from

    def values(self, data: bytes, at: int = 0) -> dict[str, int]:
        """The numbers of the members that the bytes hold wholly; bytes for arrays are left out."""
        return {
            member.name: struct.unpack_from(f"<{member.format}", data, at + member.offset)[0]
            for member in self.members
            if member.size in _CODES and at + member.offset + member.size <= len(data)
        }


@functools.cache
def layout(name: str, abi: Abi) -> Layout | None:
    """The structure on this ABI; None if the table or the ABI does not have it."""
    for abis, size, members in by_name("structs").get(name, ()):
        if abi.name.lower() in abis.split(","):
            return Layout(name, int(size), tuple(map(_member, members.split())))
    return None


@functools.cache
def _is_aggregate(kind: str) -> bool:
    """Whether a member of this kind is a structure or an array, not a number."""
    members = by_name("structs").get(kind, [["", "", "self:"]])[0][2]
    return kind in _ARRAYS or "self:" not in members


def _member(cell: str) -> Member:
    name, *rest = cell.split(":")
    if not rest:
        return Member(name)
    offset, form, *kind = rest
    return Member(name, int(offset), int(form[1:]), form[0] == "i", kind[0] if kind else "")
