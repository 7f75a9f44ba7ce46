# SPDX-License-Identifier: Apache-2.0
"""Splits a filter expression into tokens."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from kwatch.syscalls.filter.error import FilterError, Span
from kwatch.syscalls.filter.fields import Operator


class TokenKind(enum.Enum):
    """WORD: without quotes, also keywords and numbers. SYMBOL: operators, parentheses, commas."""

    WORD = enum.auto()
    QUOTED = enum.auto()
    SYMBOL = enum.auto()
    END = enum.auto()


@dataclass(frozen=True, slots=True)
class Token:
    """`text`: of a quoted token its value, with surrogates for bytes that are not UTF-8."""

    kind: TokenKind
    text: str
    span: Span

    def is_word(self, *words: str) -> bool:
        return self.kind is TokenKind.WORD and self.text in words

    def is_symbol(self, *symbols: str) -> bool:
        return self.kind is TokenKind.SYMBOL and self.text in symbols


#: Words that have a meaning of their own; as values they are quoted.
KEYWORDS = frozenset({"and", "or", "not"} | {op.value for op in Operator if op.value.isalpha()})

#: A value or a name without quotes. `!` is part of it where it does not begin `!=`.
BARE_WORD = re.compile(r"""(?:[^\s()=<>,'"!]|!(?!=))+""")
_SYMBOL = re.compile(r"[<>!]=|==|=~|<>|[=<>(),]")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.)|$)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_BYTE_HINT = r"write its bytes as \xNN, in quotes"
_ESCAPE_HINT = r"known are \n, \t, \\, \', \" and \xNN; write \\ for a backslash"


def tokens_of(expression: str) -> list[Token]:
    """All tokens, and one of kind END. Raises FilterError."""
    tokens: list[Token] = []
    place = 0
    while place < len(expression):
        if expression[place].isspace():
            place += 1
            continue
        tokens.append(_token_at(expression, place))
        place = tokens[-1].span.end
    end = len(expression)
    return [*tokens, Token(TokenKind.END, "", Span(end, end))]


def _token_at(expression: str, place: int) -> Token:
    if expression[place] in "'\"":
        return _quoted(expression, place)
    if match := _SYMBOL.match(expression, place):
        text = "=" if match[0] == "==" else match[0]
        return Token(TokenKind.SYMBOL, text, Span(*match.span()))
    match = BARE_WORD.match(expression, place)
    assert match is not None  # any other character begins a word
    span = Span(*match.span())
    return Token(TokenKind.WORD, _without_null(expression, match[0], span), span)


def _quoted(expression: str, start: int) -> Token:
    value: list[str] = []
    quote, place = expression[start], start + 1
    while place < len(expression) and expression[place] != quote:
        if expression[place] == "\\":
            char, place = _escape(expression, place)
            value.append(char)
        else:
            value.append(expression[place])
            place += 1
    if place >= len(expression):
        problem, hint = f"the quote {quote} is never closed", f"write {quote} where the text ends"
        raise FilterError(expression, Span(start, place), problem, hint)
    span = Span(start, place + 1)
    return Token(TokenKind.QUOTED, _without_null(expression, "".join(value), span), span)


def _escape(expression: str, place: int) -> tuple[str, int]:
    """The character of an escape, and the place after it."""
    match = _ESCAPE.match(expression, place)
    assert match is not None  # there is a backslash
    byte, char = match.groups()
    if byte is not None:
        return bytes([int(byte, 16)]).decode(errors="surrogateescape"), match.end()
    if char not in _ESCAPED:
        problem = f"{match[0]} is not an escape"
        raise FilterError(expression, Span(*match.span()), problem, _ESCAPE_HINT)
    return _ESCAPED[char], match.end()


def _without_null(expression: str, text: str, span: Span) -> str:
    """The text, if names and paths of the kernel can be equal to it."""
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise FilterError(expression, span, "this text is not UTF-8", _BYTE_HINT) from None
    if "\0" in text:
        raise FilterError(expression, span, "a name or path has no null byte", "leave it out")
    return text
