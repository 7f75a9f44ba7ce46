# SPDX-License-Identifier: Apache-2.0
"""The kind of an argument: what it holds, which way it goes, and how long it is.

fd                  a scalar
open_flags          a set of constants
command:fcntl       a set whose value chooses the variant of the call
<timespec           a pointer to a structure that the call reads (> writes, <> both)
>timespec!          written also when the call fails
>data[ret:size]     as many as the result, at most the argument `size`
>dirents64[ret](N)  at most N bytes of it
<>pollfd[nfds]      an argument tells how many; `[*len]` the int that it points to; `[2]` two
    <perf_event_attr[@a]   the second int that the argument points to: the structure's own size
>bytes[len/4096]    a part of it; `[vlen*16]` a multiple; `[ret+8]` more
"""

from __future__ import annotations

import enum
import functools
import re
from typing import NamedTuple


class Source(enum.IntEnum):
    """What the number of elements behind a pointer comes from."""

    CONSTANT = 0
    ARGUMENT = 1
    RESULT = 2
    POINTEE = 3
    SECOND = 4


class Length(NamedTuple):
    """How many elements: `(source // divisor) * factor + more`, at most the argument `limit`."""

    source: Source
    #: the name of the argument, or "" for a constant and the result
    argument: str
    constant: int = 1
    limit: str = ""
    divisor: int = 1
    factor: int = 1
    more: int = 0


class Kind(NamedTuple):
    base: str
    is_read: bool = False
    is_written: bool = False
    length: Length | None = None
    #: bytes at most, 0 for no limit of its own
    cap: int = 0
    also_on_error: bool = False
    chooses_variant: bool = False

    @property
    def is_pointer(self) -> bool:
        return self.is_read or self.is_written


_KIND = re.compile(r"([<>]*)(\w+)(?:\[([^]]+)\])?(?:\((\d+)\))?(!?)")
_LENGTH = re.compile(r"([*@]?)(\w+)(?::(\w+))?(?:([/*+])(\d+))?")


@functools.cache
def parse(text: str) -> Kind:
    """The kind that a cell of calls.tsv describes. Raises ValueError."""
    command, _, rest = text.rpartition(":") if text.startswith("command:") else ("", "", text)
    match = _KIND.fullmatch(rest)
    if match is None:
        raise ValueError(f"not a kind of an argument: {text}")
    direction, base, length, cap, mark = match.groups()
    return Kind(
        base,
        "<" in direction,
        ">" in direction,
        _length(length) if length else None,
        int(cap or 0),
        bool(mark),
        bool(command),
    )


def _length(text: str) -> Length:
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise ValueError(f"not a length of an argument: {text}")
    star, name, limit, operator, operand = match.groups()
    number = int(operand or 1)
    behind = {"*": Source.POINTEE, "@": Source.SECOND}
    source = behind.get(star, Source.RESULT if name == "ret" else Source.ARGUMENT)
    if name.isdecimal():
        return Length(Source.CONSTANT, "", int(name))
    return Length(
        source,
        "" if source is Source.RESULT else name,
        limit=limit or "",
        divisor=number if operator == "/" else 1,
        factor=number if operator == "*" else 1,
        more=number if operator == "+" else 0,
    )


#: Bases whose length counts bytes, and arguments that hold a number of bytes.
_BYTE_BASES = frozenset("bytes data str path sockaddr dirents dirents64 cpu_set msgbuf".split())
_BYTE_COUNTS = frozenset(
    "size usize sigsetsize sizemask addrlen addr_len upeer_addrlen usockaddr_len optlen len".split()
)

#: Arguments whose structure holds its own size.
_SIZED_BY_THEMSELVES = frozenset("uattr req attr_uptr".split())

#: Kinds of which only the lower 32 bits of a register count.
INTS = frozenset({"int", "uint"})

#: Bases that lead to further memory: see kwatch.syscalls.capture.Nested.
NESTED = frozenset("iovec msghdr mmsghdr strings sigset_argument aio_sigset".split())


def counts_bytes(kind: Kind) -> bool:
    """Whether the kind's length is in bytes, not in elements."""
    counted = kind.length.argument if kind.length else ""
    own_size = kind.length is not None and kind.length.argument in _SIZED_BY_THEMSELVES
    return kind.base in _BYTE_BASES or counted in _BYTE_COUNTS or own_size
