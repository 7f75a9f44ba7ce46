# SPDX-License-Identifier: Apache-2.0
"""What the table says of a call: its effect, its result and its arguments with their kinds.

    call(Abi.X86_64, 257).arguments[1].kind     Kind(base="path", is_read=True, ...)

One row serves every ABI; what differs is where a 64-bit argument lies on a 32-bit one.
"""

from __future__ import annotations

import enum
import functools
from typing import NamedTuple

from kwatch.syscalls import names
from kwatch.syscalls.data_files import by_name
from kwatch.syscalls.kinds import Kind, parse
from kwatch.wire.events import Abi

#: Kinds that are 64 bits wide by value: two registers of a 32-bit ABI.
WIDE = frozenset({"off", "fanotify_events"})
#: Kinds that are a descriptor by value.
DESCRIPTORS = frozenset({"fd", "dirfd", "mapfd"})
#: ABIs whose pointers and longs have 4 bytes.
NARROW = frozenset({Abi.I386, Abi.X32, Abi.ARM})
_MAX_WORDS = 6


class Effect(enum.IntEnum):
    """What a call does: the recorder keeps what it read, and of writes only failures matter."""

    READS_STATUS = 0
    WRITES_STATUS = 1
    READS_CONTENT = 2
    WRITES_CONTENT = 3


_EFFECTS = dict(zip(("rs", "ws", "rc", "wc"), Effect, strict=True))


class Argument(NamedTuple):
    """An argument, the first register that holds it, and whether the next one has the rest."""

    name: str
    kind: Kind
    word: int
    is_split: bool = False


class Call(NamedTuple):
    name: str
    effect: Effect
    result: str
    arguments: tuple[Argument, ...]
    #: registers that hold arguments
    words: int

    def position(self, name: str) -> int:
        """The index of the argument with this name."""
        return next(i for i, argument in enumerate(self.arguments) if argument.name == name)

    @property
    def descriptor(self) -> Argument | None:
        """The first argument that is a descriptor."""
        return next((a for a in self.arguments if a.kind.base in DESCRIPTORS), None)

    @property
    def command(self) -> Argument | None:
        """The argument that chooses among variants of the call."""
        return next((a for a in self.arguments if a.kind.chooses_variant), None)


@functools.cache
def call(abi: Abi, nr: int) -> Call | None:
    """The call with this number, also one inside socketcall and ipc; None for an unknown one."""
    return named(abi, names.name(abi, nr))


@functools.cache
def named(abi: Abi, name: str, variant: str = "") -> Call | None:
    """The call with this name, or its variant for one command; None if there is no such row."""
    key = f"{name}/{variant}" if variant else name
    table = by_name("calls")
    row = table.get(f"{key}@{abi.name.lower()}") or table.get(key)
    if row is None:
        return None
    effect, result, listed = row[0]
    arguments, words = _placed(abi, listed)
    return Call(name, _EFFECTS[effect], result, arguments, words)


@functools.cache
def variants(name: str) -> tuple[str, ...]:
    """The commands for which the call has a row of its own."""
    return tuple(key.partition("/")[2] for key in by_name("calls") if key.startswith(f"{name}/"))


def _placed(abi: Abi, listed: str) -> tuple[tuple[Argument, ...], int]:
    """The arguments with their registers, and how many registers there are.

    i386 puts the halves of 64 bits into the next two registers, arm into an even pair (AAPCS).
    """
    placed, word = [], 0
    for cell in listed.split():
        name, _, text = cell.partition(":")
        kind = parse(text)
        is_split = abi in (Abi.I386, Abi.ARM) and kind.base in WIDE and not kind.is_pointer
        if is_split and abi is Abi.ARM:
            word += word % 2
        placed.append(Argument(name, kind, word, is_split))
        word += 1 + is_split
    return tuple(placed), min(word, _MAX_WORDS)
