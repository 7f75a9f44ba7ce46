# SPDX-License-Identifier: Apache-2.0
"""The arguments of a call, from the text between its parentheses."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: A quoted string, or a character that may end an argument.
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\](){},]')
#: Also what a descriptor refers to, such as `3</etc/passwd>` or `4<TCP:[[::1]:80->[::1]:81]>`.
_PART_OR_FILE = re.compile(_PART.pattern + r"|(?<=[\dD])<(?:->|[^<>]|<[^<>]*>)*>")
_DEPTHS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def argument_texts(text: str, has_files: bool = False) -> list[str]:
    """`text`: the arguments, joined with commas. `has_files`: with what descriptors refer to."""
    return list(_split(text, _PART_OR_FILE if has_files else _PART))


def _split(text: str, part: re.Pattern[str]) -> Iterator[str]:
    start = depth = 0
    for match in part.finditer(text):
        mark = match.group()
        if mark == "," and not depth:
            yield text[start : match.start()].strip()
            start = match.end()
        depth += _DEPTHS.get(mark, 0)
    if rest := text[start:].strip():
        yield rest
