# SPDX-License-Identifier: Apache-2.0
"""What pointers lead to: the text of the bytes that were captured, by the argument's kind."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from kwatch.syscalls.calls import NARROW, Argument, Call
from kwatch.syscalls.decode import (
    credentials,
    files,
    polling,
    scalars,
    signals,
    sockets,
    structs,
    text,
    times,
)
from kwatch.syscalls.decode.sets import Cached
from kwatch.syscalls.decode.style import Pieces, Show, Style, descriptor_text
from kwatch.syscalls.decode.vectors import count_text, words
from kwatch.syscalls.kinds import INTS, Source, counts_bytes
from kwatch.syscalls.layouts import layout

#: Texts of paths that are kept.
MAX_PATHS = 16384
_PATH_MAX = 4096


def pointer_show(call: Call, argument: Argument, style: Style) -> Show:
    """The function for this argument. Raises KeyError for a kind without one."""
    make = MAKERS.get(argument.kind.base)
    if make is not None:
        return make(call, argument, style)
    return _elements(call, argument, style)


def path_texts() -> Callable[[bytes], str]:
    """The text of a path; what was shown before is looked up."""
    known: dict[bytes, str] = {}

    def show(data: bytes) -> str:
        found = known.get(data)
        if found is None:
            if len(known) >= MAX_PATHS:
                known.clear()
            found = known[data] = text.string(data, _PATH_MAX)
        return found

    return show


def _path(call: Call, argument: Argument, style: Style) -> Show:
    if argument.kind.length is not None:
        return lambda data, a, r, d: text.quoted(
            data.rstrip(b"\0"), len(data.rstrip(b"\0")), _PATH_MAX
        )
    show = path_texts()
    return lambda data, a, r, d: show(data)


def _string(call: Call, argument: Argument, style: Style) -> Show:
    return lambda data, a, r, d: text.string(data, style.strings)


def _read_link(call: Call, argument: Argument, style: Style) -> Show:
    return lambda data, a, r, d: text.quoted(data, r, style.strings)


def _data(call: Call, argument: Argument, style: Style) -> Show:
    total = _total(call, argument)

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        size = total(a, r)
        return text.quoted(data[:size], size, style.strings)

    return show


def _random(call: Call, argument: Argument, style: Style) -> Show:
    return lambda data, a, r, d: text.hexadecimal(data, r, style.strings)


def _total(call: Call, argument: Argument) -> Callable[[Sequence[int], int], int]:
    """How many bytes there are, of which the piece may be the beginning."""
    length = argument.kind.length
    if length is None:
        return lambda a, r: 0
    if length.source is Source.CONSTANT:
        return lambda a, r: length.constant
    limit = call.arguments[call.position(length.limit)].word if length.limit else None
    if length.source is Source.RESULT:
        return lambda a, r: r if limit is None else min(r, a[limit] & 0xFFFFFFFFFFFFFFFF)
    counted = call.arguments[call.position(length.argument)]
    word, mask = counted.word, (1 << (32 if counted.kind.base in INTS else 64)) - 1
    return lambda a, r: a[word] & mask


def _msgbuf(call: Call, argument: Argument, style: Style) -> Show:
    width = 4 if style.abi in NARROW else 8
    total = _total(call, argument)

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        kind = int.from_bytes(data[:width], "little", signed=True)
        size = total(a, r)
        shown = text.quoted(data[width : width + size], size, style.strings)
        return f"{{mtype={kind}, mtext={shown}}}"

    return show


def _bytes(call: Call, argument: Argument, style: Style) -> Show:
    total = _total(call, argument)

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        size = total(a, r)
        return text.quoted(data[:size], size or len(data), style.strings)

    return show


def _words(call: Call, argument: Argument, style: Style) -> Show:
    word = argument.word
    if argument.kind.length is None:
        return lambda data, a, r, d: count_text(words(data, style.abi), structs.address(a[word]))
    return lambda data, a, r, d: f"[{', '.join(map(structs.address, words(data, style.abi)))}]"


def _elements(call: Call, argument: Argument, style: Style) -> Show:
    """Structures and numbers that the table describes, one or an array of them."""
    kind = argument.kind
    base, size = kind.base, structs.size(kind.base, style.abi)
    found = layout(base, style.abi)
    part = "all" if kind.is_written and not kind.is_read else "input"
    sized = kind.length is not None
    single = structs.struct_show(base, style.abi, value_kinds(style), part, sized)
    if found is None or single is None:
        return lambda data, a, r, d: structs.address(a[argument.word])
    is_number = [member.name for member in found.members] == ["self"]
    if kind.length is None or (counts_bytes(kind) and not is_number):
        if (is_number and base != "wait_status") or base == "sched_param":
            return lambda data, a, r, d: f"[{_bare(single(data))}]"
        return lambda data, a, r, d: single(data)
    return lambda data, a, r, d: structs.array(data, size, single)


def _bare(shown: str) -> str:
    """A structure of one number without its braces and label."""
    return shown[1:-1].partition("=")[2] if shown.startswith("{") else shown


def value_kinds(style: Style) -> dict[str, Callable[..., str]]:
    """Kinds of members that are neither numbers nor sets."""
    descriptor = descriptor_text(style)
    return {
        "sigset": lambda v: (
            signals.signal_set_bytes(v) if isinstance(v, bytes) else signals.signal_set(v)
        ),
        "handler": signals.handler,
        "wait_status": signals.wait_status,
        "chars": structs.chars,
        "ulongs": structs.unsigned_longs(style.abi),
        "fsid": structs.file_system_id,
        "fd": lambda v: descriptor(scalars.int32(v)),
        "dated": times.dated,
        "ticks": signals.ticks,
        "sem_flags": Cached(
            lambda v: {0: "0", 0o4000: "IPC_NOWAIT", 0o10000: "SEM_UNDO"}.get(v, hex(v))
        ).__getitem__,
    }


def _int_array(call: Call, argument: Argument, style: Style) -> Show:
    show = descriptor_text(style, is_new=argument.kind.is_written)

    def array(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        numbers = struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4])
        return f"[{', '.join(map(show, numbers))}]"

    return array


#: By kind, for those that are more than the table says.
MAKERS: dict[str, Callable[[Call, Argument, Style], Show]] = {
    "path": _path,
    "str": _string,
    "data": _data,
    "bytes": _bytes,
    "open_how": files.open_how_maker,
    "file_handle": files.file_handle_maker,
    "cap_data": credentials.capabilities_maker,
    "stat": files.stat_maker,
    "stat64": files.stat_maker,
    "sockaddr": sockets.sockaddr_maker,
    "sigset": signals.sigset_maker,
    "siginfo": signals.siginfo_maker,
    "sigaction": signals.sigaction_maker,
    "pollfd": polling.pollfds_maker,
    "fd_set": polling.fd_set_maker,
    "epoll_event": polling.epoll_maker,
    "dirents": files.dirents_maker,
    "dirents64": files.dirents_maker,
    "cpu_set": polling.cpu_set_maker,
    "msgbuf": _msgbuf,
    "words": _words,
    "fd": _int_array,
}
#: Calls whose argument is shown in a way of its own.
_OF_CALL = {
    ("getrandom", "ubuf"): _random,
    ("readlink", "buf"): _read_link,
    ("readlinkat", "buf"): _read_link,
    ("utimensat", "utimes"): files.timespecs_maker,
    ("utimensat_time64", "utimes"): files.timespecs_maker,
    ("utimes", "utimes"): files.timespecs_maker,
    ("futimesat", "utimes"): files.timespecs_maker,
    ("getsockopt", "optval"): sockets.option_maker,
    ("setsockopt", "optval"): sockets.option_maker,
}


def shown_of(call: Call, argument: Argument, style: Style) -> Show:
    """`pointer_show`, but for calls that show this argument in their own way."""
    special = _OF_CALL.get((call.name, argument.name))
    if special is not None and not (
        special is sockets.option_maker and argument.kind.base != "bytes"
    ):
        return special(call, argument, style)
    return pointer_show(call, argument, style)
