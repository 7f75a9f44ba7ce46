# SPDX-License-Identifier: Apache-2.0
"""Parses filter expressions by recursive descent, which knows what is expected at each place.

or:         and ("or" and)*
and:        not ("and" not)*
not:        "not" not | "(" or ")" | comparison
comparison: FIELD OPERATOR value | FIELD "in" "(" value ("," value)* ")" | FIELD "exists"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from kwatch.syscalls.filter.error import FilterError, near
from kwatch.syscalls.filter.expression import (
    Comparison,
    Expression,
    Not,
    Value,
    conjunction,
    disjunction,
)
from kwatch.syscalls.filter.fields import FIELDS, SIMILAR, SYNONYMS, Field, Kind, Operator
from kwatch.syscalls.filter.lexer import KEYWORDS, Token, TokenKind, tokens_of
from kwatch.syscalls.filter.values import ValueProblem, value_of

#: Parentheses and `not` inside each other. The C compiler accepts no more than 256 parentheses.
MAX_DEPTH = 50

_OPERATORS = {operator.value: operator for operator in Operator}
#: How other languages write it.
_FOREIGN = {"&&": "and", "||": "or", "!": "not", "AND": "and", "OR": "or", "NOT": "not"}
_FOREIGN_OPERATORS = {
    **{"~": "glob", "=~": "glob", "like": "glob", "matches": "glob", "<>": "!="},
    **{"eq": "=", "is": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"icontains": "contains", "iglob": "glob", "bcontains": "contains", "pmatch": "startswith"},
}
_KIND_NAMES = {
    Kind.NUMBER: "a number",
    Kind.DURATION: "a time",
    Kind.ERRNO: "an error",
    Kind.TEXT: "a text",
    Kind.CALL: "the name of a call",
    Kind.CLASS: "a class of calls",
}
_SYMBOL_HINT = "quote a value that has blanks, quotes or any of ( ) , = < >"
_BLANK_HINT = "quote a value that has blanks, or join two comparisons with and"
_EXAMPLE = "a filter is like: comm = nginx and not (syscall in (read, write) or ret >= 0)"


def parse(expression: str) -> Expression:
    """The parsed filter. Raises FilterError."""
    parser = _Parser(expression)
    if parser.is_at_end():
        parser.fail("it is empty", _EXAMPLE)
    parsed = parser.either()
    if not parser.is_at_end():
        parser.fail_after_term()
    return parsed


class _Parser:
    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = tokens_of(expression)
        self._next = 0
        self._depth = 0

    @property
    def token(self) -> Token:
        """The token that is not parsed yet."""
        return self._tokens[self._next]

    def is_at_end(self) -> bool:
        return self.token.kind is TokenKind.END

    def either(self) -> Expression:
        terms = [self._all()]
        while self._take_word("or"):
            terms.append(self._all())
        return disjunction(terms)

    def fail(self, problem: str, hint: str = "", token: Token | None = None) -> NoReturn:
        raise FilterError(self._expression, (token or self.token).span, problem, hint)

    def fail_after_term(self) -> NoReturn:
        if self.token.is_symbol(")"):
            self.fail("this closes no parenthesis", "remove it, or open one before")
        if self.token.is_symbol(","):
            self.fail("expected 'and', 'or' or the end", "write a list as: comm in (A, B)")
        word = _FOREIGN.get(self.token.text)
        is_symbol = self.token.kind is TokenKind.SYMBOL
        hint = f"write {word}" if word else _SYMBOL_HINT if is_symbol else ""
        self.fail("expected 'and', 'or' or the end", hint or _BLANK_HINT)

    def _all(self) -> Expression:
        terms = [self._negation()]
        while self._take_word("and"):
            terms.append(self._negation())
        return conjunction(terms)

    def _negation(self) -> Expression:
        if self.token.is_word("not"):
            return self._deeper(lambda: Not(self._negation()))
        if self.token.is_symbol("("):
            return self._deeper(self.either)
        return self._comparison()

    def _deeper(self, parse_rest: Callable[[], Expression]) -> Expression:
        """Takes `not` or `(` and parses what follows."""
        if self._depth == MAX_DEPTH:
            self.fail(
                f"more than {MAX_DEPTH} parentheses and nots are inside each other",
                "a and (b and c) is a and b and c; not not a is a",
            )
        self._depth += 1
        opening = self._take()
        term = parse_rest()
        if opening.is_symbol("("):
            self._close(opening)
        self._depth -= 1
        return term

    def _close(self, opening: Token) -> None:
        if self.is_at_end():
            self.fail("this parenthesis is never closed", "write ) where it ends", opening)
        if not self.token.is_symbol(")"):
            self.fail_after_term()
        self._take()

    def _comparison(self) -> Expression:
        field = self._field()
        operator = self._operator(field)
        if operator is Operator.EXISTS:
            return Comparison(field, operator)
        if operator is Operator.IN:
            return Comparison(field, operator, self._values(field))
        return Comparison(field, operator, (self._value(field, operator),))

    def _field(self) -> Field:
        token = self.token
        if token.kind is not TokenKind.WORD or token.text in KEYWORDS:
            self.fail("expected a field", f"the fields are {', '.join(FIELDS)}")
        field = FIELDS.get(token.text) or SYNONYMS.get(token.text)
        if field is None:
            self._fail_without_field(token)
        self._take()
        return field

    def _fail_without_field(self, token: Token) -> NoReturn:
        if token.text in _FOREIGN or token.text.startswith("!"):
            self.fail("expected a field", f"write {_FOREIGN.get(token.text, 'not')}")
        similar = SIMILAR.get(token.text)
        hint = f"write: {similar}" if similar else near(token.text, [*FIELDS, *SYNONYMS])
        self.fail("there is no such field", hint or f"the fields are {', '.join(FIELDS)}")

    def _operator(self, field: Field) -> Operator:
        token = self.token
        choices = ", ".join(operator.value for operator in field.operators)
        known = f"{field.name} takes {choices}"
        if token.is_word("not"):
            self.fail("expected an operator", f"put not before the field: not {field.name} ...")
        operator = None if token.kind is TokenKind.QUOTED else _OPERATORS.get(token.text)
        if operator is None:
            meant = _FOREIGN_OPERATORS.get(token.text)
            hint = f"write {meant}" if meant else near(token.text, choices.split(", ")) or known
            self.fail(f"expected an operator after {field.name}", hint)
        if operator not in field.operators:
            kind = _KIND_NAMES[field.kind]
            if operator is Operator.EXISTS:
                self.fail(f"every call has {field.name}", known)
            self.fail(f"{field.name} is {kind}, which {operator.value} does not compare", known)
        self._take()
        return operator

    def _values(self, field: Field) -> tuple[Value, ...]:
        opening = self.token
        if not opening.is_symbol("("):
            self.fail("expected a list in parentheses", f"like {field.name} in (A, B)")
        self._take()
        values = [self._value(field, Operator.IN)]
        while not self.token.is_symbol(")"):
            if self.is_at_end():
                self.fail("this parenthesis is never closed", "write ) where it ends", opening)
            if not self.token.is_symbol(","):
                self.fail(
                    "expected a comma or a closing parenthesis", f"like {field.name} in (A, B)"
                )
            self._take()
            values.append(self._value(field, Operator.IN))
        self._take()
        return tuple(values)

    def _value(self, field: Field, operator: Operator) -> Value:
        token = self.token
        if token.is_symbol("("):
            self.fail("expected one value", f"only in takes a list: {field.name} in (A, B)")
        if token.kind in (TokenKind.END, TokenKind.SYMBOL):
            self.fail(f"expected {_KIND_NAMES[field.kind]}", _SYMBOL_HINT)
        if token.is_word(*KEYWORDS):
            self.fail(
                f"expected {_KIND_NAMES[field.kind]}, not the word {token.text}",
                f"quote it if you mean the text: '{token.text}'",
            )
        try:
            value = value_of(field, operator, token.text, token.kind is TokenKind.QUOTED)
        except ValueProblem as problem:
            self.fail(str(problem), problem.hint)
        self._take()
        return value

    def _take(self) -> Token:
        token = self.token
        self._next += 1
        return token

    def _take_word(self, word: str) -> bool:
        if not self.token.is_word(word):
            return False
        self._take()
        return True
