# SPDX-License-Identifier: Apache-2.0
"""One argument as a Python expression over registers `a`, the result `r` and pieces `d`.

Expressions, not calls, where a call would cost more than the formatting: most calls have two or
three numbers and a string.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kwatch.syscalls.calls import NARROW, Argument, Call
from kwatch.syscalls.capture_format import PIECES
from kwatch.syscalls.decode import scalars, vectors
from kwatch.syscalls.decode.conditional import CONDITIONAL
from kwatch.syscalls.decode.pointers import shown_of, value_kinds
from kwatch.syscalls.decode.sets import Cached, named_set
from kwatch.syscalls.decode.signals import signal_set_bytes
from kwatch.syscalls.decode.structs import struct_show
from kwatch.syscalls.decode.style import Descriptors, Style
from kwatch.syscalls.kinds import NESTED
from kwatch.syscalls.layouts import layout


class Namespace:
    """Objects that the expressions of one call refer to, by names made for them."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    def name(self, thing: object) -> str:
        made = f"o{len(self.objects)}"
        self.objects[made] = thing
        return made


def expression(call: Call, argument: Argument, style: Style, space: Namespace) -> str | None:
    """An expression for the argument's text; None if the call does not show it.

    An expression that begins with `+` yields the separator too, or nothing.
    """
    kind = argument.kind
    if kind.base == "none" or argument.word > 5:
        return None
    conditional = CONDITIONAL.get((call.name, argument.name)) or CONDITIONAL.get(("", kind.base))
    if conditional is not None:
        return f"+{space.name(conditional(call, argument, style))}(a, r, d)"
    if kind.base in NESTED:
        return _nested(call, argument, style, space)
    if kind.is_pointer:
        return _pointer(call, argument, style, space)
    plain = style._replace(descriptors=None)
    return _scalar(argument, plain if call.name in _WITH_NUMBERS else style, space)


#: Calls whose descriptors may be closed, as the bounds of a range are.
_WITH_NUMBERS = frozenset({"close_range"})


def _scalar(argument: Argument, style: Style, space: Namespace) -> str:
    base, register = argument.kind.base, f"a[{argument.word}]"
    if argument.is_split:
        register = f"(a[{argument.word}] & 4294967295 | a[{argument.word + 1}] << 32)"
    bits = 32 if style.abi in NARROW else 64
    mask = (1 << bits) - 1
    if base in ("fd", "mapfd", "dirfd") and style.descriptors:
        show = _described(style.descriptors, base)
        return f"{space.name(show)}({register})"
    if base in ("int", "fd", "pid", "tid", "mapfd"):
        return f"((({register} & 4294967295) ^ 2147483648) - 2147483648)"
    if base == "uint":
        return f"({register} & 4294967295)"
    if base == "ulong":
        return f"({register} & {mask})"
    if base == "long":
        return f"((({register} & {mask}) ^ {1 << bits - 1}) - {1 << bits - 1})"
    if base in ("addr", "hex"):
        return _hexadecimal(register, mask, "NULL" if base == "addr" else "0")
    known = named_set(base, style.abi)
    if known is None:
        known = Cached(scalars.SCALARS[base])
    return f"{space.name(known)}[{register}]"


def _described(descriptors: Descriptors, base: str) -> Callable[[int], str]:
    def show(value: int) -> str:
        number = scalars.int32(value)
        if number < 0 and (base != "dirfd" or number != scalars.AT_FDCWD):
            return str(number)
        return descriptors.argument(number)

    return show


def _address(mask: int, null: str) -> Callable[[int], str]:
    return lambda value: f"{value & mask:#x}" if value & mask else null


def _pointer(call: Call, argument: Argument, style: Style, space: Namespace) -> str:
    """The bytes' text, or the address where they were not captured."""
    word, kind = argument.word, argument.kind
    address = _plain_address(argument, style)
    show = space.name(shown_of(call, argument, style))
    entry, exit_ = f"d[{word}]", f"d[{word + 6}]"
    if kind.is_read and kind.is_written:
        change = space.name(_change(call, argument, style))
        return f"({change}({entry}, {exit_}, a, r, d) if {entry} is not None else {address})"
    first, second = (entry, exit_) if kind.is_read else (exit_, None)
    given = f"{first} is not None" + (" and r < 0" if kind.also_on_error else "")
    text = f"{show}({first}, a, r, d) if {given} else "
    if second is not None:
        text += f"{show}({second}, a, r, d) if {second} is not None else "
    return f"({text}{address})"


def _plain_address(argument: Argument, style: Style) -> str:
    mask = (1 << (32 if style.abi in NARROW else 64)) - 1
    return _hexadecimal(f"a[{argument.word}]", mask, "NULL")


def _hexadecimal(register: str, mask: int, null: str) -> str:
    return f'(hex({register} & {mask}) if {register} & {mask} else "{null}")'


def _change(call: Call, argument: Argument, style: Style) -> Callable[..., str]:
    """Bytes that the call reads and writes: as before, or before and after."""
    show, base = shown_of(call, argument, style), argument.kind.base
    behind = struct_show(base, style.abi, value_kinds(style), part="output")
    has_output = _has_output(base, style)

    def change(before: bytes, after: bytes | None, a: Any, r: int, d: Any) -> str:
        first = show(before, a, r, d)
        if after is None or base in _ASKED_ONLY:
            return first
        second = show(after, a, r, d)
        if base in _ANSWER_ONLY:
            return second
        if has_output and behind is not None:
            return f"{first[:-1]}, {behind(after)[1:]}"
        if base == "off" or base == "offset":
            return f"{first} => {second}"
        if first == second:
            return first
        return f"[{first[1:-1]} => {second[1:-1]}]" if first[0] == "[" else f"{first} => {second}"

    return change


#: What strace shows as it was asked, and its change with the result if at all.
_ASKED_ONLY = frozenset("pollfd fd_set timespec timespec64 timeval bytes ifconf fiemap".split())
#: What it shows as it came back.
_ANSWER_ONLY = frozenset({"timex", "user_desc", "file_handle"})


def _has_output(base: str, style: Style) -> bool:
    found = layout(base, style.abi)
    return found is not None and any(member.name == "|" for member in found.members)


def _nested(call: Call, argument: Argument, style: Style, space: Namespace) -> str:
    """What nested chunks hold, or the address where they were not captured."""
    address = _plain_address(argument, style)
    show = space.name(_nested_show(call, argument, style))
    piece = f"d[{PIECES}]"
    if argument.kind.base == "msghdr" and argument.kind.is_written:
        asked = f"d[{argument.word}]"
        address = f"({space.name(_asked(style))}({asked}) if {asked} is not None else {address})"
    return f"(({show}({piece}, a, r, d) or {address}) if {piece} is not None else {address})"


def _nested_show(call: Call, argument: Argument, style: Style) -> Callable[..., str | None]:
    abi, most, base = style.abi, style.strings, argument.kind.base
    received = argument.kind.is_written
    if base == "strings":
        strings = vectors.strings_show(abi, most)
        return lambda data, a, r, d: strings(vectors.chunks(data))
    if base == "iovec":
        iovec = vectors.iovec_show(abi, most)
        return lambda data, a, r, d: iovec(vectors.chunks(data), r if received else None)
    if base == "msghdr":
        return _message(argument, style)
    if base == "mmsghdr":
        word = argument.word + 6
        return lambda data, a, r, d: vectors.messages_text(
            style, vectors.chunks(data), r if received else None, d[word]
        )
    return _pointer_and_size(style)


def _message(argument: Argument, style: Style) -> Callable[..., str | None]:
    show = vectors.message_show(style)
    received, word = argument.kind.is_written, argument.word

    def message(data: bytes, a: Any, r: int, d: Any) -> str | None:
        found = vectors.chunks(data)
        if not found or found[0] is None:
            return None
        return show(found[0], iter(found[1:]), r if received else None, d[word])

    return message


def _asked(style: Style) -> Callable[[bytes], str]:
    """A message's header of which nothing was received: the room for its sender's name."""
    found = layout("msghdr", style.abi)
    assert found is not None
    return lambda data: f"{{msg_namelen={found.values(data).get('msg_namelen', '...')}}}"


def _pointer_and_size(style: Style) -> Callable[..., str | None]:
    """pselect6's last argument: a set of signals behind a pointer, and its size."""

    def show(data: bytes, a: Any, r: int, d: Any) -> str | None:
        found = vectors.chunks(data)
        if not found or found[0] is None:
            return None
        pointer, size = [*vectors.words(found[0], style.abi), 0, 0][:2]
        inner = found[1] if len(found) > 1 else None
        shown = signal_set_bytes(inner) if inner is not None else _address(-1, "NULL")(pointer)
        return f"{{sigmask={shown}, sigsetsize={size}}}"

    return show
