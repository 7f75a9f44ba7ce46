# SPDX-License-Identifier: Apache-2.0
"""The rows of an answer as a table, as comma-separated values, or as JSON."""

from __future__ import annotations

import contextlib
import csv as csv_format
import datetime
import io
import json as json_format
import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from tabulate import tabulate

from kwatch.recording.escapes import escaped
from kwatch.recording.query import Answer
from kwatch.sinks.destination import Destination
from kwatch.system import stdio
from kwatch.units import counted, printable

_MAX_ROWS = 100_000  # of a table: its widths are known only when all rows are
_NUMBERS = ("DECIMAL", "DOUBLE", "FLOAT")


class RowOutput:
    """Standard output or a file.

    Raises KwatchError if it cannot be written. A closed pipe is not an error: BrokenPipeError
    passes through.
    """

    def __init__(self, path: str | None) -> None:
        self._to = Destination(path, newline="")
        self.is_terminal = self._to.stream.isatty()

    def write(self, text: str) -> None:
        self._to.attempt(lambda: self._to.stream.write(text))

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._to.attempt(self._to.stream.flush)
            self._to.attempt(self._to.close)


def table(answer: Answer, output: RowOutput) -> None:
    """As psql prints it, with numbers to the right, and nothing for null."""
    rows = [[printable(_text(value)) for value in row] for row in islice(answer.rows, _MAX_ROWS)]
    align = ["right" if _is_number(kind) else "left" for kind in answer.types]
    text = tabulate(
        rows,
        headers=[printable(name) for name in answer.names],
        tablefmt="presto",
        disable_numparse=True,
        colalign=align if rows else None,
    )
    output.write(f"{text}\n({counted(len(rows), 'row')})\n")
    if next(answer.rows, None) is not None:
        stdio.say(
            f"kwatch: the table has the first {_MAX_ROWS:,} rows; --csv and --json write all rows"
        )


def csv(answer: Answer, output: RowOutput) -> None:
    """As RFC 4180 says, but with the ends of lines of Unix."""
    _write_csv(output, iter([list(answer.names)]))
    _write_csv(output, ([_text(value) for value in row] for row in answer.rows))


def _write_csv(output: RowOutput, rows: Iterator[list[str]]) -> None:
    text = io.StringIO()
    writer = csv_format.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(map(printable, row) if output.is_terminal else row)
        output.write(text.getvalue())
        text.seek(0)
        text.truncate()


def json(answer: Answer, output: RowOutput) -> None:
    """An object for each row. What is not a number, a text or a truth in JSON becomes text."""
    for row in answer.rows:
        found = dict(zip(answer.names, map(_json, row), strict=True))
        output.write(f"{json_format.dumps(found)}\n")


def _json(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case list() | tuple():
            return [_json(each) for each in value]
        case dict():
            return {_text(key): _json(each) for key, each in value.items()}
    return _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case bytes() | bytearray() | memoryview():
            return escaped(bytes(value))
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case list() | tuple():
            return f"[{', '.join(map(_text, value))}]"
        case dict():
            return f"{{{', '.join(f'{_text(k)}: {_text(v)}' for k, v in value.items())}}}"
    return str(value)


def _is_number(kind: str) -> bool:
    return kind.endswith("INT") or kind.endswith("INTEGER") or kind.startswith(_NUMBERS)
