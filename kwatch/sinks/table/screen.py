# SPDX-License-Identifier: Apache-2.0
"""What a text stream can show: its columns, and the characters of its encoding."""

from __future__ import annotations

import codecs
import os
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from tabulate import tabulate

from kwatch.units import format_count, printable

_GAP = 2
_EXACT_BELOW = 10_000_000

_DEFAULT_WIDTH = 80  # of a terminal that does not tell its size
_MIN_WIDTH = 40  # narrower terminals wrap the lines themselves
_MIN_ROOM = 12  # for the names in a table
_UNLIMITED = 1 << 30


def terminal_width(stream: TextIO) -> int | None:
    """The columns of the terminal behind `stream` at this moment; None if it is no terminal."""
    if not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_WIDTH
    except OSError:
        return _DEFAULT_WIDTH


class Screen:
    """Fits text into `width` columns; None means any number. `encoding` None means UTF-8."""

    def __init__(self, width: int | None, encoding: str | None) -> None:
        self.width = _UNLIMITED if width is None else max(width, _MIN_WIDTH)
        self._encoding = codecs.lookup(encoding or "utf-8").name
        self.ellipsis = "…" if self._encoding == "utf-8" else "..."

    def clean(self, text: str) -> str:
        """`text` with `?` for control characters and for what the encoding lacks."""
        return printable(text).encode(self._encoding, "replace").decode(self._encoding)

    def clip(self, text: str, room: int) -> str:
        """`text`, cleaned, in at most `room` columns; a long one loses its middle."""
        text = self.clean(text)
        if columns(text) <= room:
            return text
        room -= len(self.ellipsis)
        if room < 2:
            return _head(text, room + len(self.ellipsis))
        tail = _head(text[::-1], room // 2)[::-1]
        return _head(text, room - room // 2) + self.ellipsis + tail

    def paragraph(self, text: str, indent: int = 2) -> list[str]:
        """`text` broken at spaces. Lines after the first are indented."""
        lines = textwrap.wrap(
            self.clean(text), self.width, subsequent_indent=" " * indent, break_on_hyphens=False
        )
        return [self.clip(line, self.width) for line in lines]

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], left: str) -> list[str]:
        """The lines of a table. The column named `left` is aligned left, the others right."""
        # tabulate makes columns wider for real headers, so they are passed as a row.
        align = ["left" if header == left else "right" for header in headers]
        text = tabulate([headers, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
        return [line.rstrip() for line in text.splitlines()]

    def room_beside(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
        """The columns that a table of these leaves for one more."""
        return max(self._rest(headers, rows), _MIN_ROOM)

    def has_room_beside(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Whether a table of these and one more fits."""
        return self._rest(headers, rows) >= _MIN_ROOM

    def _rest(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
        widths = (max(map(len, column)) for column in zip(headers, *rows, strict=True))
        return self.width - sum(width + _GAP for width in widths)


def cell(count: int) -> str:
    """A count for a table: exact while it is short enough to compare by eye."""
    return format_count(count, exact_below=_EXACT_BELOW)


def columns(text: str) -> int:
    """The columns that `text` takes on a terminal."""
    return sum(map(_char_columns, text))


def _char_columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _head(text: str, room: int) -> str:
    for index, char in enumerate(text):
        room -= _char_columns(char)
        if room < 0:
            return text[:index]
    return text
