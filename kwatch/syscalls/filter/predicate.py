# SPDX-License-Identifier: Apache-2.0
"""Compiles a filter to one Python function of a call.

The function's source has names and operators of this file only; values are constants beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

from kwatch.syscalls.classes import CLASSES
from kwatch.syscalls.filter.call import Call
from kwatch.syscalls.filter.errnos import MAX_ERRNO
from kwatch.syscalls.filter.expression import And, Comparison, Expression, Not, Or
from kwatch.syscalls.filter.fields import PATTERNS, Kind, Operator
from kwatch.syscalls.filter.values import matcher

Predicate = Callable[[Call], bool]

#: The attribute of Call in which a field is found, where it has another name.
_ATTRIBUTES = {
    "class": "syscall",
    "error": "ret",
    "duration": "duration_ns",
    **{f"arg{n}": f"args[{n}]" for n in range(6)},
}
_COMPARED = {
    Operator.EQUAL: "==",
    Operator.UNEQUAL: "!=",
    Operator.IN: "in",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
}


def predicate(expression: Expression) -> Predicate:
    """A function that says whether the filter accepts a call.

    A comparison of a value that the call does not have is false, whatever its operator, as in
    sysdig; `not` before it makes it true.
    """
    constants: list[object] = []
    source = f"lambda call: {_source(expression, constants)}"
    scope: dict[str, object] = {f"c{index}": value for index, value in enumerate(constants)}
    code = compile(source, "<filter>", "eval")
    return cast(Predicate, eval(code, {"__builtins__": {}} | scope))


def _source(expression: Expression, constants: list[object]) -> str:
    match expression:
        case Comparison():
            return _comparison(expression, constants)
        case Not(term):
            return f"not ({_source(term, constants)})"
        case And(terms):
            return " and ".join(f"({_source(term, constants)})" for term in terms)
        case Or(terms):
            return " or ".join(f"({_source(term, constants)})" for term in terms)


def _comparison(comparison: Comparison, constants: list[object]) -> str:
    """`v` is the field's value."""
    field = comparison.field
    attribute = f"call.{_ATTRIBUTES.get(field.name, field.name)}"
    value = "v" if field.optional else attribute
    tests = [f"(v := {attribute}) is not None"] if field.optional else []
    if field.kind is Kind.ERRNO:
        tests.append(f"-{MAX_ERRNO} <= v < 0")
    if comparison.operator is not Operator.EXISTS:
        constants.append(_constant(comparison))
        tests.append(_test(comparison, value, f"c{len(constants) - 1}"))
    return " and ".join(tests)


def _test(comparison: Comparison, value: str, constant: str) -> str:
    if comparison.operator in PATTERNS:
        return f"{constant}({value})"
    if comparison.field.kind is Kind.CLASS:
        absent = comparison.operator is Operator.UNEQUAL
        return f"{value} {'not in' if absent else 'in'} {constant}"
    return f"{value} {_COMPARED[comparison.operator]} {constant}"


def _constant(comparison: Comparison) -> object:
    kind, operator, values = comparison.field.kind, comparison.operator, comparison.values
    if operator in PATTERNS:
        matches = matcher(operator, cast(str, values[0]))
        return functools.cache(matches) if kind is Kind.CALL else matches
    if kind is Kind.CLASS:
        return frozenset().union(*(CLASSES[cast(str, value)] for value in values))
    if kind is Kind.ERRNO:
        values = tuple(-cast(int, value) for value in values)
    return frozenset(values) if operator is Operator.IN else values[0]
