# SPDX-License-Identifier: Apache-2.0
"""Writes the hexadecimal, octal and binary numbers of an SQL statement as decimal ones.

DuckDB reads `0x10` as a 0 with the name x10, without a word.
"""

from __future__ import annotations

import re

from kwatch.errors import UsageError

#: What may contain a number that is none, then names and decimal numbers, then the numbers.
_TOKENS = re.compile(
    r"""
      [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
    | '[^']*(?:'|\Z)
    | "[^"]*(?:"|\Z)
    | --[^\r\n]*
    | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
    | /\*
    | \d*\.\w+
    | (?P<number>0[xXbBoO][\w$]*)
    | \d+(?:[^\W\d][\w$]*)?
    | [^\W\d][\w$]*
    | \$\w+
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_WORD = 1 << 64


def decimal_literals(sql: str) -> str:
    """A number with the highest of 64 bits becomes negative: columns have signed ones.

    Raises UsageError.
    """
    parts = []
    done = at = 0
    while found := _TOKENS.search(sql, at):
        at = found.end()
        if found[0] == "/*":
            at = _end_of_comment(sql, at)
        elif found["number"]:
            parts += [sql[done : found.start()], _decimal(found["number"])]
            done = at
    return "".join((*parts, sql[done:]))


def _decimal(text: str) -> str:
    try:
        number = int(text, 0)
    except ValueError as error:
        raise UsageError(f"{text} is not a number", "write one such as 0x1f, 0o17 or 31") from error
    if number >= _WORD:
        raise UsageError(f"{text} has more than 64 bits", "registers and results have 64")
    return str(number) if number < _WORD // 2 else f"({number - _WORD})"


def _end_of_comment(sql: str, at: int) -> int:
    """Comments nest."""
    depth = 1
    while depth and (found := _COMMENT.search(sql, at)):
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at if not depth else len(sql)
