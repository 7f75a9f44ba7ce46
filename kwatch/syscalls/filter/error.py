# SPDX-License-Identifier: Apache-2.0
"""The error of a filter expression: the expression, a caret under the place, what was expected."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from kwatch.errors import UsageError

_MAX_COLUMNS = 72
_BEFORE = 48  # columns of a long expression that are shown before the place
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Span:
    """A place in the expression: characters from `start` up to `end`, which is not included."""

    start: int
    end: int


class FilterError(UsageError):
    """The expression is not valid.

    `expression`: what the user wrote. `span`: the place of the error in it, in characters; the
    place after the last character means that the expression ends too early.
    """

    def __init__(self, expression: str, span: Span, problem: str, hint: str = "") -> None:
        self.expression = expression
        self.span = span
        self.problem = problem
        lines = [f"cannot understand the filter: {_visible(problem)}", *_marked(expression, span)]
        super().__init__("\n".join(lines), _visible(hint))


def near(word: str, known: Iterable[str]) -> str:
    """`did you mean X or Y?` for the known words that resemble `word`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def _marked(expression: str, span: Span) -> tuple[str, str]:
    """The expression, or the part of it around the place, and a line with a caret below."""
    shown = _visible(expression)
    widths = [*map(_width, shown)]
    first, before = span.start, 0
    while first > 0 and before + widths[first - 1] <= _BEFORE:
        first -= 1
        before += widths[first]
    last, columns = first, 0
    while last < len(shown) and columns + widths[last] <= _MAX_COLUMNS:
        columns += widths[last]
        last += 1
    head, tail = "..." * (first > 0), "..." * (last < len(shown))
    marked = max(1, sum(widths[span.start : min(span.end, last)]))
    caret = " " * (len(head) + before) + "^" + "~" * (marked - 1)
    return _INDENT + head + shown[first:last] + tail, _INDENT + caret


def _visible(text: str) -> str:
    """The text on one line, without characters that a terminal obeys or cannot show."""
    return "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in text)


def _width(char: str) -> int:
    """The columns of a terminal that the character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
