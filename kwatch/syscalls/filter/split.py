# SPDX-License-Identifier: Apache-2.0
"""Splits a filter into what is decided in the kernel, at entry and at exit, and in user space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kwatch.syscalls.filter.expression import (
    And,
    Comparison,
    Expression,
    Not,
    Or,
    comparisons,
    conjunction,
    disjunction,
)
from kwatch.syscalls.filter.fields import Stage
from kwatch.syscalls.filter.in_kernel import MAX_TESTS, stage_of, tests_of


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a filter; None: nothing is decided there, every call passes.

    A call that returns is accepted if all three accept it. `entry` and `exit` never drop a call
    that the filter accepts. `exit` compares values of the entry too: comm, uid and the like must
    still be those. An unfinished call has passed `entry` only: apply the whole filter to it.
    `is_cut`: the kernel could decide more of it, but for MAX_TESTS.
    """

    entry: Expression | None
    exit: Expression | None
    user: Expression | None
    is_cut: bool = False


def split(expression: Expression) -> Split:
    """Decides each term of the conjunction as early as possible."""
    entry: list[Expression] = []
    at_exit: list[Expression] = []
    user: list[Expression] = []
    room, is_cut = MAX_TESTS, False
    for term in _conjuncts(expression):
        tests = sum(tests_of(each) for each in comparisons(term) if _is_in_kernel(each))
        if tests > room:
            user.append(term)
            is_cut = True
            continue
        room -= tests
        stage = max(map(stage_of, comparisons(term)))
        (entry, at_exit, user)[stage].append(term)
        if stage is not Stage.ENTRY and (needed := _bound(term, Stage.ENTRY, upper=True)):
            entry.append(needed)
        if stage is Stage.USER and (more := _bound(term, Stage.EXIT, upper=True)) != needed:
            at_exit += [more] if more else []
    return Split(_all(entry), _all(at_exit), _all(user), is_cut)


def _all(terms: list[Expression]) -> Expression | None:
    return conjunction(terms) if terms else None


def _is_in_kernel(comparison: Comparison) -> bool:
    return stage_of(comparison) is not Stage.USER


def _conjuncts(expression: Expression) -> Iterator[Expression]:
    """Terms that must all be true; `not (a or b)` is `not a` and `not b`."""
    match expression:
        case And(terms):
            for term in terms:
                yield from _conjuncts(term)
        case Not(Or(terms)):
            for term in terms:
                yield from _conjuncts(Not(term))
        case Not(Not(term)):
            yield from _conjuncts(term)
        case _:
            yield expression


def _bound(expression: Expression, stage: Stage, upper: bool) -> Expression | None:
    """What is true at least (`upper`), or at most, where the expression is true.

    It compares only what is known at the stage. None: nothing is known, so that the upper bound is
    true and the lower one is false.
    """
    match expression:
        case Comparison():
            return expression if stage_of(expression) <= stage else None
        case Not(term):
            bound = _bound(term, stage, not upper)
            return None if bound is None else Not(bound)
        case And(terms) | Or(terms):
            bounds = [_bound(term, stage, upper) for term in terms]
            known = [bound for bound in bounds if bound is not None]
            # Unknown terms change nothing: true in a conjunction, false in a disjunction.
            is_neutral = isinstance(expression, And) == upper
            if not known or (len(known) < len(bounds) and not is_neutral):
                return None
            return conjunction(known) if isinstance(expression, And) else disjunction(known)
