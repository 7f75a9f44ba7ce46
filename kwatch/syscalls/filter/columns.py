# SPDX-License-Identifier: Apache-2.0
"""Applies a filter to columns of calls: numpy arrays, and texts as indices into a dictionary."""

from __future__ import annotations

import functools
import operator as python
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from kwatch.syscalls.classes import CLASSES
from kwatch.syscalls.filter.errnos import MAX_ERRNO
from kwatch.syscalls.filter.expression import And, Comparison, Expression, Not, Or, Value
from kwatch.syscalls.filter.fields import PATTERNS, Kind, Operator
from kwatch.syscalls.filter.values import matcher

Mask: TypeAlias = npt.NDArray[np.bool_]

_COMPARED: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: python.eq,
    Operator.UNEQUAL: python.ne,
    Operator.LESS: python.lt,
    Operator.LESS_OR_EQUAL: python.le,
    Operator.GREATER: python.gt,
    Operator.GREATER_OR_EQUAL: python.ge,
}


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one field. `present`: which rows have one; None: all.

    `values`: integers of at most 64 bits, signed if they have 64. With a `dictionary`, which holds
    bytes (names of system calls: str), they are indices into it; -1 also means no value.
    """

    values: npt.NDArray[Any]
    present: Mask | None = None
    dictionary: Sequence[bytes] | Sequence[str] | None = None


def select(expression: Expression, columns: Mapping[str, Column]) -> Mask:
    """The rows that the filter accepts; the same ones as kwatch.syscalls.filter.predicate.

    `columns`: by name of the field; `class` and `error` are not needed, but `syscall` and `ret`.
    Raises KeyError if the filter compares a field without a column.
    """
    match expression:
        case Comparison():
            return _compare(expression, columns)
        case Not(term):
            return np.logical_not(select(term, columns))
        case And(terms):
            return functools.reduce(np.logical_and, (select(term, columns) for term in terms))
        case Or(terms):
            return functools.reduce(np.logical_or, (select(term, columns) for term in terms))


def _compare(comparison: Comparison, columns: Mapping[str, Column]) -> Mask:
    field = comparison.field
    column = columns[{"class": "syscall", "error": "ret"}.get(field.name, field.name)]
    present = _present(column)
    if field.kind is Kind.ERRNO:
        present = present & (column.values < 0) & (column.values >= -MAX_ERRNO)
    if comparison.operator is Operator.EXISTS:
        return present
    if column.dictionary is not None:
        return present & _compare_texts(comparison, column)
    return present & _compare_numbers(comparison, column.values)


def _present(column: Column) -> Mask:
    present = np.ones(len(column.values), bool) if column.present is None else column.present
    return present & (column.values >= 0) if column.dictionary is not None else present


def _compare_numbers(comparison: Comparison, numbers: npt.NDArray[Any]) -> Mask:
    sign = -1 if comparison.field.kind is Kind.ERRNO else 1
    values = [sign * cast(int, value) for value in comparison.values]
    signed = numbers.astype(np.int64, copy=False)
    if comparison.operator is Operator.IN:
        return np.isin(signed, np.array(values, np.int64))
    return np.asarray(_COMPARED[comparison.operator](signed, np.int64(values[0])))


def _compare_texts(comparison: Comparison, column: Column) -> Mask:
    """Compares the dictionary once; a row without a value gives any result."""
    assert column.dictionary is not None
    accepts = _text_test(comparison)
    if not len(column.dictionary):
        return np.zeros(len(column.values), np.bool_)
    accepted: Mask = np.fromiter((accepts(text) for text in column.dictionary), np.bool_)
    return cast(Mask, accepted[column.values])


def _text_test(comparison: Comparison) -> Callable[[Any], bool]:
    operator = comparison.operator
    if operator in PATTERNS:
        return matcher(operator, cast(str, comparison.values[0]))
    wanted: frozenset[Value] = frozenset(comparison.values)
    if comparison.field.kind is Kind.CLASS:
        wanted = frozenset().union(*(CLASSES[cast(str, value)] for value in wanted))
    if operator is Operator.UNEQUAL:
        return lambda text: text not in wanted
    return wanted.__contains__
