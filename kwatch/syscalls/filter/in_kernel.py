# SPDX-License-Identifier: Apache-2.0
"""What the kernel can decide of a comparison, as tests of numbers and of bytes at fixed places."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from kwatch.syscalls import names
from kwatch.syscalls.classes import CLASSES
from kwatch.syscalls.filter.expression import Comparison
from kwatch.syscalls.filter.fields import PATTERNS, Kind, Operator, Stage
from kwatch.syscalls.filter.values import matcher
from kwatch.wire.events import COMM_LEN, Abi
from kwatch.wire.maps import CALL_NUMBERS

#: The values and places that the kernel compares at most for a filter; the verifier follows each.
MAX_TESTS = 400

#: Numbers of records have 16 bits.
_ALL_NUMBERS = 1 << 16
_WORD = 64
_GLOB = re.compile(rb"(\**)([^*?\[]*)(\**)")


class Place(enum.Enum):
    """Where a text is in another one."""

    WHOLE = enum.auto()
    START = enum.auto()
    END = enum.auto()
    ANYWHERE = enum.auto()


_PLACES = {
    Operator.EQUAL: Place.WHOLE,
    Operator.UNEQUAL: Place.WHOLE,
    Operator.IN: Place.WHOLE,
    Operator.STARTSWITH: Place.START,
    Operator.ENDSWITH: Place.END,
    Operator.CONTAINS: Place.ANYWHERE,
}
_GLOB_PLACES = {
    (False, False): Place.WHOLE,
    (False, True): Place.START,
    (True, False): Place.END,
    (True, True): Place.ANYWHERE,
}


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A text at a place of a comm, which zeros fill up to COMM_LEN bytes."""

    place: Place
    text: bytes

    @property
    def pattern(self) -> bytes:
        """The text, with the zero after it that shows the end of the comm."""
        return self.text + b"\0" * (self.place in (Place.WHOLE, Place.END))

    @property
    def offsets(self) -> range:
        """Where the pattern may begin; the last byte is always zero."""
        is_at_start = self.place in (Place.WHOLE, Place.START)
        places = max(0, COMM_LEN + 1 - len(self.pattern))
        return range(min(1, places) if is_at_start else places)


@dataclass(frozen=True, slots=True)
class CallNumbers:
    """The system calls of a comparison.

    `words`: for each ABI 64 numbers as bits, by the number of the first one / 64, without words of
    zeros. `beyond`: whether all numbers from CALL_NUMBERS on belong to it; None: some do.
    """

    words: dict[Abi, dict[int, int]]
    beyond: bool | None


def stage_of(comparison: Comparison) -> Stage:
    """Where the comparison is decided."""
    field = comparison.field
    if field.kind is Kind.TEXT and field.stage is not Stage.USER:
        return Stage.USER if placed_texts(comparison) is None else field.stage
    if field.kind is Kind.CALL and call_numbers(comparison).beyond is None:
        return Stage.USER
    return field.stage


def tests_of(comparison: Comparison) -> int:
    """How many values and places the kernel compares."""
    if comparison.field.kind in (Kind.CALL, Kind.CLASS):
        return sum(len(words) for words in call_numbers(comparison).words.values())
    if comparison.field.kind is Kind.TEXT:
        return sum(len(text.offsets) for text in placed_texts(comparison) or ())
    return max(1, len(comparison.values))


def placed_texts(comparison: Comparison) -> list[PlacedText] | None:
    """Any of these makes `comm` equal or match; None: it needs a loop."""
    values = cast(tuple[bytes, ...], comparison.values)
    if comparison.operator is not Operator.GLOB:
        return [PlacedText(_PLACES[comparison.operator], value) for value in values]
    match = _GLOB.fullmatch(values[0])
    if match is None:
        return None
    stars_before, text, stars_after = match.groups()
    return [PlacedText(_GLOB_PLACES[bool(stars_before), bool(stars_after)], text)]


@functools.lru_cache(maxsize=256)
def call_numbers(comparison: Comparison) -> CallNumbers:
    """The calls that are equal to any of the values, match the pattern, or are in any class."""
    values = cast(tuple[str, ...], comparison.values)
    if comparison.operator in PATTERNS:
        matches = matcher(comparison.operator, values[0])
        beyond = {matches(name) for name in _names_beyond()}
    else:
        wanted = frozenset(values)
        if comparison.field.kind is Kind.CLASS:
            wanted = frozenset().union(*(CLASSES[value] for value in values))
        matches = wanted.__contains__
        beyond = {False}  # such names are not in the table, and no filter has them
    words = {abi: _words(abi, matches) for abi in Abi}
    return CallNumbers(words, beyond.pop() if len(beyond) == 1 else None)


def _words(abi: Abi, matches: Callable[[str], bool]) -> dict[int, int]:
    words: dict[int, int] = {}
    for nr in range(CALL_NUMBERS):
        if matches(names.name(abi, nr)):
            words[nr // _WORD] = words.get(nr // _WORD, 0) | 1 << nr % _WORD
    return words


@functools.cache
def _names_beyond() -> tuple[str, ...]:
    """The table ends at CALL_NUMBERS for every ABI, so that these names are those of any."""
    return tuple(names.name(Abi.X86_64, nr) for nr in range(CALL_NUMBERS, _ALL_NUMBERS))
