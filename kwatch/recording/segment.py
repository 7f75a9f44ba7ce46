# SPDX-License-Identifier: Apache-2.0
"""Writes one segment of a recording: a Parquet file for each table, then the manifest."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.recording.rows import RowMaker
from kwatch.recording.schema import ARGUMENTS, FORMAT, TABLES
from kwatch.recording.stack_rows import StackRows
from kwatch.recording.store import SEGMENTS, Store
from kwatch.recording.texts import ColumnTexts
from kwatch.wire.events import Batch

ROWS_AT_ONCE = 131_072  # in a row group: fewer compress less well
_BYTES_AT_ONCE = 64 << 20  # of a batch's rows

#: What compresses best, and fast: docs/recordings.md. The others are plain.
_ENCODINGS = {
    **dict.fromkeys(("seq", "ts_ns"), "DELTA_BINARY_PACKED"),
    **dict.fromkeys(("duration_ns", "ret", "ip", *ARGUMENTS), "BYTE_STREAM_SPLIT"),
}
_PLAIN = {"data", "pid", "tid", "nr", "uid", "cgroup_id", "entry_tid"}


class Segment:
    """One segment, in files that have no name before `commit`."""

    def __init__(
        self, store: Store, maker: RowMaker, stacks: StackRows, folder: str, name: str
    ) -> None:
        """`folder`: of each table. `name`: of the segment, unique on its host."""
        self._store = store
        self._maker = maker
        self._stacks = stacks
        self._texts = ColumnTexts()
        self._folder = folder
        self.name = name
        self.began_ns = time.time_ns()
        self.bytes = 0  # of committed files, and of those being written, roughly
        self.calls = 0
        self._begun: list[str] = []  # tables; the file of the last one may not be there
        self._files: dict[str, _TableFile] = {}
        self._manifest_file: BinaryIO | None = None  # there as long as the segment is not finished
        self._waiting: dict[str, list[pa.RecordBatch]] = {}
        self._waiting_rows = self._waiting_bytes = 0

    def add_calls(self, joined: JoinedCalls) -> None:
        """Raises OSError."""
        rows = self._maker.rows(joined, self._texts)
        self.calls += len(rows["syscalls"])
        self._add(rows)

    def add_heap(self, events: Batch) -> None:
        """Raises OSError."""
        self._add(self._maker.heap_rows(events, self._texts))

    def _add(self, rows: Mapping[str, pa.RecordBatch]) -> None:
        self._open_manifest()
        for table, batch in rows.items():
            if len(batch):
                self._waiting.setdefault(table, []).append(batch)
                if "stack" in TABLES[table].names:
                    self._stacks.note(batch)
                self._waiting_rows += len(batch)
                self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= ROWS_AT_ONCE or self._waiting_bytes >= _BYTES_AT_ONCE:
            self._write_waiting()

    def _write_waiting(self) -> None:
        for table, batches in self._waiting.items():
            self._write(table, _with_texts(pa.Table.from_batches(batches), table, self._texts))
        self._waiting.clear()
        self._texts = ColumnTexts()
        self._waiting_rows = self._waiting_bytes = 0
        self.bytes = sum(file.written for file in self._files.values())

    def write_table(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Writes a small table at once. Raises OSError."""
        if rows:
            self._open_manifest()
            self._write(table, pa.Table.from_pylist(rows, TABLES[table]))

    def _write(self, table: str, rows: pa.Table) -> None:
        if table not in self._files:
            self._begun.append(table)
            self._files[table] = _TableFile(self._store, self._path(table), table)
        self._files[table].write(rows)

    def commit(self, facts: Mapping[str, Any]) -> None:
        """Finishes the files. `facts`: what the manifest tells besides. Raises OSError."""
        self.write_table("stacks", self._stacks.take())
        self._write_waiting()
        files = {table: file.finish(facts) for table, file in self._files.items()}
        for each in files.values():
            self._store.commit(each["path"])
        manifest = {"format": FORMAT, **facts, "files": files}
        with self._open_manifest() as file:
            file.write(json.dumps(manifest, indent=1).encode() + b"\n")
        self._store.commit(self.manifest)
        self.bytes = sum(each["bytes"] for each in files.values())

    def _open_manifest(self) -> BinaryIO:
        if self._manifest_file is None:
            self._manifest_file = os.fdopen(self._store.create(self.manifest), "wb")
        return self._manifest_file

    @property
    def manifest(self) -> str:
        return f"{SEGMENTS}/{self._folder}/{self.name}.json"

    @property
    def paths(self) -> list[str]:
        """The files of the tables."""
        return [self._path(table) for table in self._files]

    def abandon(self) -> None:
        """Leaves what was written under its unfinished names."""
        for file in self._files.values():
            file.close()
        if self._manifest_file is not None:
            self._manifest_file.close()

    def discard(self) -> None:
        """Removes what was written. Raises OSError."""
        self.abandon()
        for path in (*map(self._path, self._begun), self.manifest):
            self._store.discard(path)

    def _path(self, table: str) -> str:
        return f"{table}/{self._folder}/{self.name}.parquet"


class _TableFile:
    """One Parquet file."""

    def __init__(self, store: Store, path: str, table: str) -> None:
        self._path = path
        self._file = _HashedFile(store.create(path))
        schema = TABLES[table]
        names = set(schema.names)
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=sorted(names - _ENCODINGS.keys() - _PLAIN),
            column_encoding={n: e for n, e in _ENCODINGS.items() if n in names} or None,
            write_statistics=sorted(names - {"data"}),
        )
        self._rows = 0

    @property
    def written(self) -> int:
        return self._file.written

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=ROWS_AT_ONCE * 2)
        self._rows += len(rows)

    def finish(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the manifest says of the file."""
        self._writer.add_key_value_metadata(
            {f"kwatch.{name}": json.dumps(value) for name, value in facts.items()}
        )
        self._writer.close()
        self._file.sync()
        self._file.close()
        return {
            "path": self._path,
            "rows": self._rows,
            "bytes": self._file.written,
            "sha256": self._file.digest,
        }

    def close(self) -> None:
        self._writer.is_open = False  # or it would write the end when it is collected
        self._file.close()


class _HashedFile(io.RawIOBase):
    """Hashes what is written, which is never written again."""

    def __init__(self, fd: int) -> None:
        self._file = io.FileIO(fd, "wb")
        self._hash = hashlib.sha256()
        self.written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            at += self._file.write(view[at:])
        self._hash.update(view)
        self.written += len(view)
        return len(view)

    def tell(self) -> int:
        return self.written

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


def _with_texts(rows: pa.Table, table: str, texts: ColumnTexts) -> pa.Table:
    """The rows with columns of texts instead of their indexes."""
    schema = TABLES[table]
    columns = []
    for field, column in zip(schema, rows.columns, strict=True):
        if pa.types.is_dictionary(field.type):
            known = pa.array(texts[table, field.name].texts, pa.string())
            chunks = [pa.DictionaryArray.from_arrays(chunk, known) for chunk in column.chunks]
            column = pa.chunked_array(chunks, field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
