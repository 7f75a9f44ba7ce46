# SPDX-License-Identifier: Apache-2.0
"""Structures from the table, member by member: `{tv_sec=1, tv_nsec=0}`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from kwatch.syscalls.calls import NARROW
from kwatch.syscalls.decode import scalars
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.text import escaped
from kwatch.syscalls.layouts import Layout, Member, layout
from kwatch.wire.events import Abi

#: What of an array strace shows without -v.
MAX_ELEMENTS = 32
#: The text of a structure that begins at the start of these bytes.
Show = Callable[[bytes], str]
#: The text of one member: its raw value, a number or bytes.
_Value = Callable[[int], str] | Callable[[bytes], str]


def struct_show(
    name: str,
    abi: Abi,
    kinds: dict[str, _Value],
    part: str = "all",
    sized: bool = False,
) -> Show | None:
    """A function for the structure's bytes; None if the table does not have it.

    What is not wholly captured ends with `...`. `part` is "input" for the members before the mark
    `|`, "output" for those behind it. With `sized` the caller gives the size, which may be smaller.
    """
    found = layout(name, abi)
    if found is None:
        return None
    if [member.name for member in found.members] == ["self"]:
        return _single(found.members[0], abi, kinds)
    members = _part(found, part)
    shows = [(member, _value(member, abi, kinds)) for member in members]
    unpack = [struct.Struct(f"<{member.format}").unpack_from for member in members]

    placed = [member for member in members if member.size]
    if [member.offset for member in placed] == sorted(member.offset for member in placed):
        return _whole(found, members, shows, sized)
    return _by_member(shows, unpack, sized)


def _whole(
    found: Layout, members: list[Member], shows: list[tuple[Member, _Value]], sized: bool
) -> Show:
    """All members by one read where they are in order and wholly captured."""
    needed, read = found.reader(*(member.name for member in members if member.size))
    labels = [f"{member.name}=" for member in members if member.size]
    texts = [text for member, text in shows if member.size]
    tail = ", ...}" if any(not member.size for member in members) else "}"
    unpack = [struct.Struct(f"<{member.format}").unpack_from for member in members]
    slow = _by_member(shows, unpack, sized)

    def show(data: bytes) -> str:
        if len(data) < needed:
            return slow(data)
        parts = [
            label + text(value)
            for label, text, value in zip(labels, texts, read(data), strict=True)
        ]
        return "{" + ", ".join(parts) + tail

    return show


def _by_member(
    shows: list[tuple[Member, _Value]], unpack: list[Callable[..., tuple[Any, ...]]], sized: bool
) -> Show:
    """Member by member, with dots for what was not captured."""

    def show(data: bytes) -> str:
        parts = []
        for (member, text), read in zip(shows, unpack, strict=True):
            if not member.size:
                parts.append("...")
            elif member.offset + member.size > len(data):
                if not (sized and parts and member.offset >= len(data)):
                    parts.append("...")
                break
            else:
                parts.append(f"{member.name}={text(read(data, member.offset)[0])}")
        return "{" + ", ".join(parts) + "}"

    return show


def size(name: str, abi: Abi) -> int:
    """Bytes of the structure; 1 for what has no layout."""
    found = layout(name, abi)
    return found.size if found else 1


def _part(found: Layout, part: str) -> list[Member]:
    names = [member.name for member in found.members]
    mark = names.index("|") if "|" in names else len(names)
    if part == "all":
        return [member for member in found.members if member.name != "|"]
    return list(found.members[mark + 1 :] if part == "output" else found.members[:mark])


def _single(member: Member, abi: Abi, kinds: dict[str, _Value]) -> Show:
    read, text = struct.Struct(f"<{member.format}").unpack_from, _value(member, abi, kinds)
    return lambda data: text(read(data)[0]) if len(data) >= member.size else "..."


def _value(member: Member, abi: Abi, kinds: dict[str, _Value]) -> _Value:
    kind = member.kind
    if not kind:
        return str
    if kind in kinds:
        return kinds[kind]
    if kind in ("addr", "word"):
        return address
    if kind == "rlim":
        width = member.size * 8
        return lambda value: scalars.resource_limit(value, width)
    if kind in scalars.SCALARS:
        return scalars.SCALARS[kind]
    known = named_set(kind, abi)
    if known is not None:
        return known.__getitem__
    inner = struct_show(kind, abi, kinds)
    if inner is None:
        raise KeyError(f"no kind {kind} for {member.name}")
    return inner


def address(value: int) -> str:
    return f"{value:#x}" if value else "NULL"


def chars(value: bytes) -> str:
    """A string inside of a structure."""
    return f'"{escaped(value.split(bytes(1), 1)[0])}"'


def unsigned_longs(abi: Abi) -> Callable[[bytes], str]:
    code, width = ("I", 4) if abi in NARROW else ("Q", 8)
    return lambda value: (
        f"[{', '.join(map(str, struct.unpack(f'<{len(value) // width}{code}', value)))}]"
    )


def file_system_id(value: bytes) -> str:
    first, second = struct.unpack("<II", value)
    return f"{{val=[{', '.join(f'{half:#x}' if half else '0' for half in (first, second))}]}}"


def array(data: bytes, size: int, show: Callable[[bytes], str]) -> str:
    """The whole elements in the bytes."""
    count = len(data) // size
    parts = [show(data[i * size : (i + 1) * size]) for i in range(min(count, MAX_ELEMENTS))]
    return f"[{', '.join(parts)}{', ...' if count > MAX_ELEMENTS else ''}]"
