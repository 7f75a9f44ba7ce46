# SPDX-License-Identifier: Apache-2.0
"""Parsed filters: comparisons joined by and, or, not; and their text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from kwatch.syscalls.filter.errnos import ERRNO_NAMES
from kwatch.syscalls.filter.fields import Field, Kind, Operator
from kwatch.syscalls.filter.lexer import BARE_WORD, KEYWORDS

#: NUMBER, DURATION (ns), ERRNO: int. TEXT: bytes. CLASS: str, without a first `%`. CALL: str, a
#: name in kwatch.syscalls.names.everything() or a pattern.
Value: TypeAlias = int | bytes | str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field and what it is compared with: one value; several for IN; none for EXISTS."""

    field: Field
    operator: Operator
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    term: Expression


@dataclass(frozen=True, slots=True)
class And:
    """Two terms or more; none of them is an And."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Two terms or more; none of them is an Or."""

    terms: tuple[Expression, ...]


Expression: TypeAlias = Comparison | Not | And | Or

_PLAIN = re.compile(r"[\w@%+./:*?\[\]-]+")
_UNITS = (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))


def conjunction(terms: Iterable[Expression]) -> Expression:
    """At least one term; terms that are conjunctions themselves are joined in."""
    flat = [each for term in terms for each in (term.terms if isinstance(term, And) else (term,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def disjunction(terms: Iterable[Expression]) -> Expression:
    """At least one term; terms that are disjunctions themselves are joined in."""
    flat = [each for term in terms for each in (term.terms if isinstance(term, Or) else (term,))]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def comparisons(expression: Expression) -> Iterator[Comparison]:
    """Every comparison, from left to right."""
    match expression:
        case Comparison():
            yield expression
        case Not(term):
            yield from comparisons(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from comparisons(term)


def text_of(expression: Expression) -> str:
    """The expression as a user would write it. Parsing it gives an equal expression."""
    match expression:
        case Comparison():
            return _comparison_text(expression)
        case Not(term):
            return f"not {_nested(term, And, Or)}"
        case And(terms):
            return " and ".join(_nested(term, Or) for term in terms)
        case Or(terms):
            return " or ".join(text_of(term) for term in terms)


def _nested(term: Expression, *weaker: type) -> str:
    """The text of a term, in parentheses if its operator binds less than the one around it."""
    text = text_of(term)
    return f"({text})" if isinstance(term, weaker) else text


def _comparison_text(comparison: Comparison) -> str:
    start = f"{comparison.field.name} {comparison.operator.value}"
    if comparison.operator is Operator.EXISTS:
        return start
    values = [_value_text(comparison.field.kind, value) for value in comparison.values]
    if comparison.operator is Operator.IN:
        return f"{start} ({', '.join(values)})"
    return f"{start} {values[0]}"


def _value_text(kind: Kind, value: Value) -> str:
    if isinstance(value, bytes):
        return _quoted(value)
    if isinstance(value, str):
        return f"%{value}" if kind is Kind.CLASS else _quoted(value.encode())
    if kind is Kind.ERRNO:
        return ERRNO_NAMES.get(value, str(value))
    if kind is Kind.DURATION:
        unit, size = next((unit for unit in _UNITS if value and value % unit[1] == 0), ("ns", 1))
        return f"{value // size}{unit}"
    return str(value)


def _quoted(value: bytes) -> str:
    """Bare if it is a plain word, otherwise in quotes."""
    text = value.decode(errors="surrogateescape")
    if _PLAIN.fullmatch(text) and BARE_WORD.fullmatch(text) and text not in KEYWORDS:
        return text
    return "'" + "".join(map(_escaped, text)) + "'"


def _escaped(char: str) -> str:
    """Bytes that are not UTF-8, and characters that cannot be printed, as `\\xNN`."""
    if char in "'\\":
        return "\\" + char
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))
