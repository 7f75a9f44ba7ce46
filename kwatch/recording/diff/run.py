# SPDX-License-Identifier: Apache-2.0
"""A recording as columns, and its threads in the order in which they were created."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kwatch.recording.call_texts import CallTexts
from kwatch.recording.columns import TEXT_COLUMNS
from kwatch.recording.diff.normal import normal_path
from kwatch.recording.manifest import NONSENSE, Recording, damaged
from kwatch.recording.schema import ARGUMENTS, TABLES

_COLUMNS = list(dict.fromkeys(("seq", "pid", "tid", "comm", "path", "duration_ns", *TEXT_COLUMNS)))
_WHENEVER = ("rt_sigreturn", "sigreturn")  # signals arrive at any moment
_CREATES = ("clone", "clone3", "fork", "vfork")
_WHOLE = 65535  # bytes of each string: all that was recorded

Places = npt.NDArray[np.int64]


class Thread(NamedTuple):
    """`rows`: its calls, in the order of their return."""

    pid: int
    tid: int
    comm: str
    rows: Places


class Run:
    """Raises KwatchError if a file is damaged."""

    def __init__(self, recording: Recording, names: frozenset[str] | None, strings: int) -> None:
        """`names`: of the calls to compare; None for all. `strings`: bytes of each string that is
        shown."""
        self.path = recording.path
        self.pids: Mapping[int, str] = {}  # a name for each pid and tid: see pairing.py
        recording.verify(["syscalls", "exits"])
        try:
            self._calls, self._order = _read(recording, "syscalls", _COLUMNS, names)
            self._ends, self._end_order = _read(recording, "exits", ["seq", "tid"], None)
            self.threads = self._threads()
        except (*NONSENSE, pa.ArrowException, OSError) as error:
            raise damaged(recording.path, str(error).partition("\n")[0]) from error
        self._shown = CallTexts(strings)
        self._whole = CallTexts(_WHOLE)

    def __len__(self) -> int:
        return len(self._calls)

    def column(self, name: str) -> pa.Array:
        return self._calls[name].chunk(0)

    @cached_property
    def words(self) -> npt.NDArray[np.int64]:
        """The registers, a row for each."""
        return np.stack([self.column(name).to_numpy() for name in ARGUMENTS])

    @cached_property
    def calls(self) -> list[str]:
        """The name and the path of each call that is in it; see `numbers`."""
        return self._named[0]

    @cached_property
    def numbers(self) -> Places:
        """The index in `calls` of each row."""
        return self._named[1]

    @cached_property
    def _named(self) -> tuple[list[str], Places]:
        names, paths = self.column("name"), self.column("path")
        path_numbers = pc.fill_null(paths.indices, len(paths.dictionary)).to_numpy()
        both = names.indices.to_numpy().astype(np.int64) << 32 | path_numbers
        distinct, numbers = np.unique(both, return_inverse=True)
        name_texts = names.dictionary.to_pylist()
        path_texts = [*map(normal_path, paths.dictionary.to_pylist()), ""]
        texts = [
            f"{name_texts[each >> 32]}\0{path_texts[each & 0xFFFFFFFF]}"
            for each in distinct.tolist()
        ]
        return texts, numbers.astype(np.int64)

    @cached_property
    def results(self) -> Places:
        """What each call returned; 0 if it did not."""
        found: Places = pc.fill_null(self.column("ret"), 0).to_numpy()
        return found

    @cached_property
    def creations(self) -> npt.NDArray[np.bool_]:
        """Which calls have created a thread or process; each returned its pid."""
        named = pc.is_in(self.column("name").cast(pa.string()), pa.array(_CREATES))
        found: npt.NDArray[np.bool_] = named.to_numpy(zero_copy_only=False) & (self.results > 0)
        return found

    def texts(self, rows: Places) -> list[str]:
        """The lines, as `kwatch show` prints them."""
        return self._texts(self._shown.of, rows)

    def whole_texts(self, rows: Places) -> list[str]:
        """The lines with whole strings."""
        return self._texts(self._whole.of, rows)

    def row(self, row: int) -> dict[str, Any]:
        return {name: self.column(name)[row].as_py() for name in _COLUMNS}

    def _texts(self, make: Callable[[pa.ChunkedArray], pa.Array], rows: Places) -> list[str]:
        taken = self._calls.take(pa.array(rows)).select(list(TEXT_COLUMNS))
        found = make(pa.chunked_array(taken.to_struct_array()))
        return [text if text is not None else "?" for text in found.to_pylist()]

    def _threads(self) -> list[Thread]:
        """A tid may be that of several threads, one after the other."""
        tids = self.column("tid").to_numpy().astype(np.int64)
        order = self._order
        lives = np.zeros(len(tids), np.int64)
        end_tids = self._ends["tid"].chunk(0).to_numpy()
        for tid in np.unique(end_tids).tolist():
            of_thread = np.flatnonzero(tids == tid)
            ends = np.sort(self._end_order[end_tids == tid])
            lives[of_thread] = np.searchsorted(ends, order[of_thread])
        keys = tids << 24 | lives
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        rows = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[rows], np.arange(len(distinct) + 1))
        pids, comms = self.column("pid"), self.column("comm")
        found = []
        for number in np.argsort(first, kind="stable").tolist():
            of_thread = rows[bounds[number] : bounds[number + 1]]
            last = int(of_thread[-1])
            tid = int(distinct[number] >> 24)
            found.append(Thread(pids[last].as_py(), tid, comms[last].as_py(), of_thread))
        return found


def _read(
    recording: Recording, table: str, columns: list[str], names: frozenset[str] | None
) -> tuple[pa.Table, Places]:
    """The rows of all segments in their order, and numbers that grow with it."""
    parts, orders = [], []
    for number, segment in enumerate(recording.segments):
        if table not in segment.files:
            continue
        part = pq.read_table(segment.files[table].path, columns=columns, partitioning=None)
        if table == "syscalls":
            texts = part["name"].cast(pa.string())
            is_wanted = pc.invert(pc.is_in(texts, pa.array(_WHENEVER)))
            if names is not None:
                is_wanted = pc.and_(is_wanted, pc.is_in(texts, pa.array(sorted(names))))
            part = part.filter(is_wanted)
        parts.append(_plain(part))
        orders.append(part["seq"].to_numpy() + (number << 40))
    if not parts:
        empty = pa.schema([TABLES[table].field(name) for name in columns]).empty_table()
        return _one_chunk(_plain(empty)), np.zeros(0, np.int64)
    return _one_chunk(pa.concat_tables(parts)), np.concatenate(orders)


def _plain(part: pa.Table) -> pa.Table:
    """Offsets of 64 bits: the contents of all segments are one array."""
    for at, field in enumerate(part.schema):
        if field.type == pa.binary():
            part = part.set_column(at, field.name, part[field.name].cast(pa.large_binary()))
    return part.unify_dictionaries()


def _one_chunk(rows: pa.Table) -> pa.Table:
    rows = rows.unify_dictionaries().combine_chunks()
    columns = [
        column if column.num_chunks else pa.chunked_array([pa.array([], column.type)])
        for column in rows.columns
    ]
    return pa.table(columns, names=rows.column_names)
