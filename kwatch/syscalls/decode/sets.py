# SPDX-License-Identifier: Apache-2.0
"""Flags and enumerations by name, each value formatted once."""

from __future__ import annotations

from collections.abc import Callable

from kwatch.syscalls.constants import Constant, ConstantSet, constants
from kwatch.syscalls.decode import scalars
from kwatch.wire.events import Abi

_MAX_CACHED = 4096


class Cached(dict[int, str]):
    """Texts by value: `cached[value]` formats a value at its first use."""

    def __init__(self, make: Callable[[int], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: int) -> str:
        if len(self) >= _MAX_CACHED:
            self.clear()
        text = self[value] = self._make(value)
        return text


def named_set(name: str, abi: Abi) -> Cached | None:
    """The texts of a set's values; None if there is no such set."""
    found = constants(name, abi)
    if found is None or found.kind == "mode":
        return None
    make = flags_text if found.kind == "flags" else enum_text
    return Cached(lambda value: make(found, value))


def enum_text(known: ConstantSet, value: int) -> str:
    """The constant's name, or the number with a comment that it has none."""
    value &= (1 << known.width) - 1
    for constant in known.constants:
        if constant.value == value:
            return constant.name
    if known.unknown == "value":
        return str(scalars.int32(value))
    return f"{value:#x} /* {known.unknown} */"


def flags_text(known: ConstantSet, value: int) -> str:
    """The names of the bits joined by `|`, what has no name in hexadecimal."""
    value &= (1 << known.width) - 1
    names, rest = _names(known, value)
    if not rest:
        return "|".join(names) if names else _zero(known)
    if known.unknown == "octal":
        return "|".join([*names, *_octal_rest(rest)])
    if known.unknown == "signal" and not rest & ~0xFF:
        return "|".join([*names, scalars.signal(rest)])
    return "|".join([*names, f"{rest:#x}"]) if names else f"{rest:#x} /* {known.unknown} */"


def _names(known: ConstantSet, value: int) -> tuple[list[str], int]:
    """Names of what the value has, in the set's order, and its bits without a name."""
    names, rest = [], value
    fields = {c.mask for c in known.constants if c.mask != c.value}
    for constant in known.constants:
        if _matches(constant, rest, value, fields):
            names.append(constant.name)
            rest &= ~constant.mask
            fields.discard(constant.mask)
    for mask in fields:
        if rest & mask:
            names.insert(0, f"{rest & mask:#x} /* {known.unknown} */")
            rest &= ~mask
    return names, rest


def _matches(constant: Constant, rest: int, value: int, fields: set[int]) -> bool:
    """A flag if its bits are left; one of a field's values also if it is 0."""
    if constant.mask == constant.value and constant.mask not in fields:
        return bool(constant.mask) and rest & constant.mask == constant.value
    return constant.mask in fields and value & constant.mask == constant.value


def _zero(known: ConstantSet) -> str:
    return next((c.name for c in known.constants if not c.value and not c.mask), "0")


def _octal_rest(rest: int) -> list[str]:
    high = rest & ~0o777
    return ([f"{high:#x}"] if high else []) + [f"0{rest & 0o777:o}".zfill(3)]
