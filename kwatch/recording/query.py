# SPDX-License-Identifier: Apache-2.0
"""Answers SQL over a recording, with DuckDB.

What a query may do is for its author to say, as in DuckDB. The data of a recording is only read:
its files are checked first, and nothing is installed, loaded or fetched.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from kwatch.errors import KwatchError, UsageError
from kwatch.recording.call_texts import CallTexts
from kwatch.recording.columns import CALL_TEXT, TEXT_COLUMNS, columns
from kwatch.recording.literals import decimal_literals
from kwatch.recording.manifest import Recording, damaged
from kwatch.recording.schema import TABLES

T = TypeVar("T")
Row = tuple[Any, ...]

#: Columns that DuckDB makes of the paths of files.
_FROM_PATHS = (("host", "VARCHAR"), ("day", "DATE"), ("filename", "VARCHAR"))
ROWS_AT_ONCE = 10_000
_LOOK_S = 0.05  # between checks for a signal
_STATEMENTS = ("SELECT", "EXPLAIN", "COPY", "MULTI")  # PIVOT is one of several
_ON_ARROW: Mapping[str, Any] = {"type": "arrow", "null_handling": "special"}
_TYPES = {
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
    pa.bool_(): "BOOLEAN",
    pa.string(): "VARCHAR",
    pa.list_(pa.string()): "VARCHAR[]",
}


class Answer:
    """`rows` come from DuckDB bit by bit. `names`, `types`: of the columns, as DuckDB says them."""

    def __init__(self, names: Sequence[str], types: Sequence[str], rows: Iterator[Row]) -> None:
        self.names = names
        self.types = types
        self.rows = rows


class Database:
    """The tables of a recording as views. The methods raise KwatchError."""

    def __init__(self, recording: Recording, strings: int, check: Callable[[], None]) -> None:
        """`strings`: bytes of each string in a call's text. `check` is called while DuckDB works;
        if it raises, DuckDB's work ends."""
        self._recording = recording
        self._check = check
        self._folder = tempfile.TemporaryDirectory(prefix="kwatch-")
        self._connection = duckdb.connect(
            config={
                "temp_directory": self._folder.name,
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        fields = {name: _duckdb_type(TABLES["syscalls"].field(name).type) for name in TEXT_COLUMNS}
        self._connection.create_function(
            CALL_TEXT,
            CallTexts(strings).of,
            [duckdb.struct_type(fields)],
            "VARCHAR",
            **_ON_ARROW,
        )
        self._has_views = False

    def close(self) -> None:
        self._connection.close()
        self._folder.cleanup()

    def columns(self, table: str) -> list[tuple[str, str]]:
        """The names and types."""
        self._create_views()
        found = self._connection.execute(f"DESCRIBE {table}").fetchall()
        return [(name, kind) for name, kind, *_ in found]

    def answer(self, sql: str) -> Answer:
        statement = self._statement(decimal_literals(sql))
        self._recording.verify(table for table in TABLES if _names(statement.query, table))
        self._create_views()
        run = self._connection.execute
        result = self._patiently(lambda: run(statement))
        names = [each[0] for each in result.description or ()]
        types = [str(each[1]) for each in result.description or ()]
        return Answer(names, types, self._rows())

    def _rows(self) -> Iterator[Row]:
        while rows := self._patiently(lambda: self._connection.fetchmany(ROWS_AT_ONCE)):
            yield from rows

    def _statement(self, sql: str) -> Any:
        try:
            found = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _translated(error) from error
        if len(found) != 1:
            what = "several statements" if found else "no statement"
            raise UsageError(f"the query has {what}", "write one SELECT")
        if found[0].type.name not in _STATEMENTS:
            raise UsageError(
                f"a query cannot be {found[0].type.name}", "write a SELECT, or a COPY of one"
            )
        return found[0]

    def _create_views(self) -> None:
        """Reads the ends of the first files, which have been verified if the query needs them."""
        if not self._has_views:
            for table in TABLES:
                self._create_view(table)
        self._has_views = True

    def _create_view(self, table: str) -> None:
        files = self._recording.files(table)
        listed = ", ".join(
            f"({each.expression}) AS {each.name}" if each.expression else each.name
            for each in columns()[table]
        )
        source = _source(files) if files else _nothing(table)
        try:
            self._connection.execute(f"CREATE VIEW {table} AS SELECT {listed} FROM {source}")
        except (duckdb.Error, UnicodeEncodeError) as error:
            raise damaged(self._recording.path, _first_line(error)) from error

    def _patiently(self, work: Callable[[], T]) -> T:
        """Does something in a thread, which a signal interrupts."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="duckdb", daemon=True).start()
        try:
            while not wait([future], _LOOK_S).done:
                self._check()
        except BaseException:
            self._connection.interrupt()
            wait([future])
            raise
        try:
            return future.result()
        except duckdb.Error as error:
            raise _translated(error) from error


def _names(sql: str, table: str) -> bool:
    return re.search(rf"\b{table}\b", sql, re.IGNORECASE) is not None


def _source(files: Sequence[str]) -> str:
    """Of a later kwatch, one segment may have columns that others lack."""
    listed = ", ".join(_quoted(file) for file in files)
    partitions = "hive_partitioning = true, hive_types = {'host': VARCHAR, 'day': DATE}"
    return f"read_parquet([{listed}], {partitions}, union_by_name = true, filename = true)"


def _nothing(table: str) -> str:
    """A source without rows."""
    fields = [(field.name, _duckdb_type(field.type)) for field in TABLES[table]]
    listed = ", ".join(f"NULL::{kind} AS {name}" for name, kind in (*fields, *_FROM_PATHS))
    return f"(SELECT {listed} LIMIT 0)"


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _TYPES[kind.value_type]
    return _TYPES.get(kind, "BLOB")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _translated(error: Exception) -> KwatchError:
    """What DuckDB says, with the place in the query."""
    text = "\n  ".join(line for line in str(error).splitlines() if line.strip())
    if isinstance(error, duckdb.IOException | duckdb.OperationalError):
        return KwatchError(text)
    return UsageError(text, "see the tables and their columns with --tables")
