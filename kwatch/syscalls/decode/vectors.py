# SPDX-License-Identifier: Apache-2.0
"""Nested arguments: iovecs, messages and vectors of strings, from their chunks.

The chunks' form and order stand in kwatch.syscalls.capture_format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from kwatch.syscalls.calls import NARROW
from kwatch.syscalls.decode import sockets, text
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.structs import MAX_ELEMENTS, address
from kwatch.syscalls.decode.style import Style, descriptor_text
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi

_MISSING = -1
Chunk = bytes | None


def chunks(data: bytes) -> list[Chunk]:
    """The chunks of a nested argument, None for what was not resident, up to a damaged one."""
    found: list[Chunk] = []
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<i", data, at)
        at += 4
        if length == _MISSING:
            found.append(None)
        elif 0 <= length <= len(data) - at:
            found.append(data[at : at + length])
            at += length
        else:
            break
    return found


def words(data: bytes, abi: Abi) -> list[int]:
    """The whole words of the ABI in the bytes."""
    code, width = ("I", 4) if abi in NARROW else ("Q", 8)
    count = len(data) // width
    return list(struct.unpack_from(f"<{count}{code}", data))


def strings_show(abi: Abi, most: int) -> Callable[[list[Chunk]], str | None]:
    """`["ls", "-l"]`; None if the vector was not captured."""

    def show(found: list[Chunk]) -> str | None:
        if not found or found[0] is None:
            return None
        pointers = words(found[0], abi)
        is_whole = 0 in pointers
        pointers = pointers[: pointers.index(0)] if is_whole else pointers
        parts = []
        for i, pointer in enumerate(pointers[:MAX_ELEMENTS]):
            chunk = found[i + 1] if i + 1 < len(found) else None
            parts.append(address(pointer) if chunk is None else text.string(chunk, most))
        if len(pointers) > MAX_ELEMENTS or not is_whole:
            parts.append("...")
        return f"[{', '.join(parts)}]"

    return show


def count_text(pointers: list[int], at: str) -> str:
    """`0x7ffc /* 3 vars */`: how many pointers come before the null one."""
    if 0 in pointers:
        count = pointers.index(0)
        return f"{at} /* {count} var{'' if count == 1 else 's'} */"
    return f"{at} /* {len(pointers)} or more vars */"


def vector_text(
    vector: bytes, segments: Iterator[Chunk], total: int | None, most: int, abi: Abi
) -> str:
    """`[{iov_base="abc", iov_len=3}]`; `total` bytes are in the segments, None if all are."""
    pairs = words(vector, abi)
    parts: list[str] = []
    for base, length in zip(pairs[::2], pairs[1::2], strict=False):
        if len(parts) == MAX_ELEMENTS:
            parts.append("...")
            break
        valid = length if total is None else min(length, total)
        total = None if total is None else total - valid
        chunk = next(segments, None)
        shown = address(base) if chunk is None else text.quoted(chunk[:valid], valid, most)
        parts.append(f"{{iov_base={shown}, iov_len={length}}}")
    return f"[{', '.join(parts)}]"


def iovec_show(abi: Abi, most: int) -> Callable[[list[Chunk], int | None], str | None]:
    def show(found: list[Chunk], total: int | None) -> str | None:
        if not found or found[0] is None:
            return None
        return vector_text(found[0], iter(found[1:]), total, most, abi)

    return show


def message_show(
    style: Style,
) -> Callable[[bytes, Iterator[Chunk], int | None, bytes | None], str]:
    """A message header in the first bytes, what it points to, and the header before the call."""
    abi, most = style.abi, style.strings
    found, flags = layout("msghdr", abi), named_set("msg_flags", abi)
    if found is None or flags is None:
        raise KeyError("the table lacks msghdr")
    name_show, control = (
        sockets.address_show(abi),
        sockets.control_show(abi, descriptor_text(style)),
    )
    pair = 2 * found.member("msg_iov").size

    def show(data: bytes, rest: Iterator[Chunk], total: int | None, before: bytes | None) -> str:
        known = found.values(data)
        if "msg_flags" not in known:
            return "{...}"
        name, control_data, vector = next(rest, None), next(rest, None), next(rest, None)
        length = known["msg_namelen"]
        shown = address(known["msg_name"]) if name is None else name_show(name[:length])
        asked = found.values(before).get("msg_namelen", length) if before else length
        size = f"{asked} => {length}" if asked != length else str(length)
        count = len(vector) // pair if vector else 0
        segments = (next(rest, None) for _ in range(count))
        listed = (
            address(known["msg_iov"])
            if vector is None
            else vector_text(vector, segments, total, most, abi)
        )
        parts = [f"msg_name={shown}, msg_namelen={size}, msg_iov={listed}"]
        parts.append(f"msg_iovlen={known['msg_iovlen']}")
        if known["msg_controllen"]:
            at = address(known["msg_control"])
            parts.append(f"msg_control={at if control_data is None else control(control_data)}")
        parts.append(f"msg_controllen={known['msg_controllen']}")
        parts.append(f"msg_flags={flags[known['msg_flags']]}")
        return "{" + ", ".join(parts) + "}"

    return show


def messages_text(
    style: Style, found: list[Chunk], count: int | None, after: bytes | None
) -> str | None:
    """The array of sendmmsg and recvmmsg, of which `count` messages were received (None: sent).

    `after` are the headers behind the call, with how much was sent.
    """
    shape = layout("mmsghdr", style.abi)
    if shape is None or not found or found[0] is None:
        return None
    show, rest, parts = message_show(style), iter(found[1:]), []
    number = len(found[0]) // shape.size
    for i in range(number if count is None else min(number, count)):
        header = found[0][i * shape.size : (i + 1) * shape.size]
        length = shape.values(after or found[0], i * shape.size).get("msg_len", 0)
        total = None if count is None else length
        parts.append(f"{{msg_hdr={show(header, rest, total, None)}, msg_len={length}}}")
    return f"[{', '.join(parts)}]"
