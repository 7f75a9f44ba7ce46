# SPDX-License-Identifier: Apache-2.0
"""What a text stream can show: so many columns, of the characters of its encoding."""

from __future__ import annotations

import codecs
import textwrap
import unicodedata
from collections.abc import Sequence

from tabulate import tabulate

from kwatch.units import format_count, printable

_GAP = 2
_EXACT_BELOW = 10_000_000


class Screen:
    """Fits text into `width` columns; `encoding` None stands for UTF-8."""

    def __init__(self, width: int, encoding: str | None) -> None:
        self.width = width
        self._encoding = codecs.lookup(encoding or "utf-8").name
        self.ellipsis = "…" if self._encoding == "utf-8" else "..."

    def clean(self, text: str) -> str:
        """Without control characters, undecodable bytes and what the encoding lacks."""
        return printable(text).encode(self._encoding, "replace").decode(self._encoding)

    def clip(self, text: str, room: int) -> str:
        """`text`, cleaned, in at most `room` columns; what does not fit goes from its middle."""
        text = self.clean(text)
        if columns(text) <= room:
            return text
        room -= len(self.ellipsis)
        if room < 2:
            return _head(text, room + len(self.ellipsis))
        tail = _head(text[::-1], room // 2)[::-1]
        return _head(text, room - room // 2) + self.ellipsis + tail

    def paragraph(self, text: str, indent: int = 2) -> list[str]:
        """`text` broken at spaces, its further lines indented."""
        lines = textwrap.wrap(
            self.clean(text), self.width, subsequent_indent=" " * indent, break_on_hyphens=False
        )
        return [self.clip(line, self.width) for line in lines]

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], left: str) -> list[str]:
        """A table of which only the column named `left` is not aligned right."""
        # The headers are a row like the others: tabulate makes columns wider for real ones.
        align = ["left" if header == left else "right" for header in headers]
        text = tabulate([headers, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
        return [line.rstrip() for line in text.splitlines()]

    def room_beside(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
        """The columns that a table of these leaves for one more."""
        widths = (max(map(len, column)) for column in zip(headers, *rows, strict=True))
        return self.width - sum(width + _GAP for width in widths)


def cell(count: int) -> str:
    """A count for a table's column: exact as long as it is not too wide to compare by eye."""
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
