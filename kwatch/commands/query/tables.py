# SPDX-License-Identifier: Apache-2.0
"""What `kwatch query --tables` lists."""

from __future__ import annotations

from collections.abc import Iterator

from kwatch.recording.columns import columns
from kwatch.recording.query import Answer, Database, Row
from kwatch.recording.schema import MEANINGS


def tables(database: Database) -> Answer:
    """A row for each table and each of its columns."""
    names = ("table", "column", "type", "meaning")
    return Answer(names, ("VARCHAR",) * len(names), _rows(database))


def _rows(database: Database) -> Iterator[Row]:
    for table, listed in columns().items():
        yield table, None, None, MEANINGS[table]
        types = dict(database.columns(table))
        for column in listed:
            yield table, column.name, types[column.name], column.meaning
