# SPDX-License-Identifier: Apache-2.0
"""Reads a recording back as traced calls, in the order in which they were recorded."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from kwatch.errors import KwatchError
from kwatch.model.traced_call import Moment, Pieces, TracedCall
from kwatch.recording import lists
from kwatch.recording.escapes import unescaped
from kwatch.recording.manifest import Manifest, Recording
from kwatch.recording.pieces import PieceReader
from kwatch.recording.schema import ARGUMENTS, TABLES
from kwatch.syscalls.io_uring import request_name
from kwatch.wire.events import PIECES, Abi

ROWS_AT_ONCE = 65_536
_NO_PIECES: Pieces = (None,) * PIECES
_UID, _UNSIGNED = (1 << 32) - 1, (1 << 64) - 1
_SIGINFO = struct.Struct("<6Q")
_ABIS = {abi.name.lower(): int(abi) for abi in Abi}
_MOMENTS = {
    "call": Moment.RETURNED,
    "unfinished": Moment.UNFINISHED,
    "in progress": Moment.IN_PROGRESS,
}

_Numbered: TypeAlias = tuple[int, TracedCall]


def traced_calls(recording: Recording) -> Iterator[TracedCall]:
    """Raises KwatchError if a file is damaged."""
    for segment in recording.segments:
        yield from _of_segment(segment)


def _of_segment(segment: Manifest) -> Iterator[TracedCall]:
    parts = [
        make(_batches(segment.files[table].path, table))
        for table, make in _MAKERS.items()
        if table in segment.files
    ]
    if len(parts) == 1:
        return (call for _, call in parts[0])
    return (call for _, call in heapq.merge(*parts, key=_seq_of))


def _batches(path: str, table: str) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            missing = set(TABLES[table].names) - set(file.schema_arrow.names)
            if missing:
                raise _damaged(path, f"it has no column {min(missing)}")
            yield from file.iter_batches(ROWS_AT_ONCE, columns=TABLES[table].names)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except pa.ArrowException as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: str, why: str) -> KwatchError:
    return KwatchError(
        f"{path} is damaged: {why}",
        "remove its segment's manifest and tables, and the rest can be read",
    )


def _calls(batches: Iterator[pa.RecordBatch]) -> Iterator[_Numbered]:
    reader = PieceReader()
    for batch in batches:
        numbers = [lists.integers(batch[name]) for name in _NUMBERS]
        texts: list[list[Any]] = [lists.texts(batch["kind"], _MOMENTS.__getitem__)]
        texts.append(lists.texts(batch["comm"], unescaped))
        texts.append(lists.texts(batch["abi"], _ABIS.__getitem__))
        texts.append(lists.texts(batch["name"], str))
        words = zip(*(lists.unsigned(batch[name]) for name in ARGUMENTS), strict=True)
        optional = [lists.integers(batch[name]) for name in ("duration_ns", "ret", "stack")]
        lost = lists.booleans(batch["content_lost"])
        pieces = _pieces(batch, reader)
        ips = lists.unsigned(batch["ip"])
        rows = zip(*numbers, *texts, *optional, words, pieces, ips, lost, strict=True)
        for seq, pid, tid, nr, ts, uid, cgroup, entry_tid, moment, comm, abi, name, *rest in rows:
            took, ret, stack, arguments, found, ip, is_cut = rest
            yield (
                seq,
                TracedCall(
                    moment,
                    pid,
                    tid,
                    comm,
                    abi,
                    nr,
                    name,
                    ts,
                    took,
                    0 if ret is None else ret,
                    list(arguments),
                    found,
                    ip,
                    is_cut,
                    uid & _UID,
                    cgroup,
                    entry_tid,
                    (stack or 0) & _UNSIGNED,
                ),
            )


_NUMBERS = ("seq", "pid", "tid", "nr", "ts_ns", "uid", "cgroup_id", "entry_tid")


def _signals(batches: Iterator[pa.RecordBatch]) -> Iterator[_Numbered]:
    for batch in batches:
        numbers = [lists.integers(batch[name]) for name in (*_EVENT, "signal")]
        comms = lists.texts(batch["comm"], unescaped)
        abis = lists.texts(batch["abi"], _ABIS.__getitem__)
        infos = batch["siginfo"].to_pylist()
        for seq, ts, pid, tid, signal, comm, abi, info in zip(
            *numbers, comms, abis, infos, strict=True
        ):
            words = list(_SIGINFO.unpack(info))
            yield seq, _event(Moment.SIGNAL, pid, tid, comm, abi, ts, signal, words)


def _exits(batches: Iterator[pa.RecordBatch]) -> Iterator[_Numbered]:
    for batch in batches:
        numbers = [lists.integers(batch[name]) for name in (*_EVENT, "status")]
        comms = lists.texts(batch["comm"], unescaped)
        for seq, ts, pid, tid, status, comm in zip(*numbers, comms, strict=True):
            yield seq, _event(Moment.ENDED, pid, tid, comm, 0, ts, status, [0] * 6)


def _requests(batches: Iterator[pa.RecordBatch]) -> Iterator[_Numbered]:
    for batch in batches:
        numbers = [lists.integers(batch[name]) for name in (*_EVENT, *_REQUEST)]
        words = zip(*(lists.unsigned(batch[name]) for name in _REQUEST_WORDS), strict=True)
        comms = lists.texts(batch["comm"], unescaped)
        abis = lists.texts(batch["abi"], _ABIS.__getitem__)
        for seq, ts, pid, tid, took, nr, ret, given, comm, abi in zip(
            *numbers, words, comms, abis, strict=True
        ):
            arguments = [*given, 0, 0, 0]
            moment = Moment.IO_REQUEST if ret is not None else Moment.IO_IN_PROGRESS
            found = _event(moment, pid, tid, comm, abi, ts, ret or 0, arguments)
            yield seq, found._replace(nr=nr, name=request_name(nr), duration_ns=took)


_REQUEST = ("duration_ns", "opcode", "ret")
_REQUEST_WORDS = ("user_data", "flags", "cqe_flags")
_EVENT = ("seq", "ts_ns", "pid", "tid")


def _event(
    moment: Moment,
    pid: int,
    tid: int,
    comm: bytes,
    abi: int,
    ts: int,
    result: int,
    words: list[int],
) -> TracedCall:
    return TracedCall(moment, pid, tid, comm, abi, 0, "", ts, None, result, words, _NO_PIECES)


_MAKERS = {"syscalls": _calls, "signals": _signals, "exits": _exits, "io_uring": _requests}


def _seq_of(numbered: _Numbered) -> int:
    return numbered[0]


def _pieces(batch: pa.RecordBatch, reader: PieceReader) -> Iterator[Pieces]:
    lengths = [lists.fixed_bytes(batch[name]) for name in ("entry_pieces", "exit_pieces")]
    data, begins = lists.bytes_and_starts(batch["data"])
    for entry, leave, begin in zip(*lengths, begins, strict=True):
        yield reader.pieces(entry, leave, data, begin)
