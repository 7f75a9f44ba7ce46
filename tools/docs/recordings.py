# SPDX-License-Identifier: Apache-2.0
"""The tables of columns in docs/recordings.md."""

from __future__ import annotations

from collections.abc import Iterator

from docs.reference import table
from kwatch.recording.columns import HIDDEN, columns
from kwatch.recording.schema import MEANINGS, TABLES

_BEGIN = "<!-- columns: begin; made by `make docs` -->\n"
_END = "<!-- columns: end -->\n"
_HEADERS = ("column", "type", "meaning")


def page(text: str) -> str:
    """The page with the tables of today between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + "\n" + "\n".join(_lines()) + "\n" + _END + after


def _lines() -> Iterator[str]:
    for number, name in enumerate(TABLES):
        if number:
            yield ""
        yield f"`{name}`: {MEANINGS[name]}"
        yield ""
        yield from table(_HEADERS, list(_rows(name)))


def _rows(name: str) -> Iterator[tuple[str, str, str]]:
    schema = TABLES[name]
    for column in columns()[name]:
        kind = "folder" if column.name not in schema.names else str(schema.field(column.name).type)
        yield f"`{column.name}`", "query" if column.expression else _plain(kind), column.meaning
    for hidden, meaning in HIDDEN.get(name, {}).items():
        yield f"`{hidden}`", _plain(str(schema.field(hidden).type)), meaning


def _plain(kind: str) -> str:
    if kind.startswith("dictionary"):
        return "string"
    return "list of strings" if kind.startswith("list") else kind
