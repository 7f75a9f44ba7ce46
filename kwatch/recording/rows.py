# SPDX-License-Identifier: Apache-2.0
"""Makes rows of a recording's tables from the records that a session reads.

Everything is done for whole batches: one Python operation for each call would be too slow.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.recording.contents import NO_PATH, CallContents, fixed_binary
from kwatch.recording.escapes import escaped
from kwatch.recording.heap_rows import heap_rows, stack_column
from kwatch.recording.schema import ARGUMENTS, EXITS, IO_URING, SIGNALS, SYSCALLS
from kwatch.recording.texts import ByNumber, ColumnTexts
from kwatch.syscalls import calls, names
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.first_arguments import first_words
from kwatch.syscalls.io_uring import UNKNOWN_OPCODE, operation
from kwatch.wire.batches import chosen
from kwatch.wire.events import Abi, Batch, EventType
from kwatch.wire.maps import CALL_NUMBERS

_MAX_ERRNO = 4095
_ALL_WORDS = 6
_KINDS: ByNumber = {
    EventType.SYSCALL: "call",
    EventType.SYSCALL_UNFINISHED: "unfinished",
    EventType.CALL_IN_PROGRESS: "in progress",
}
_ABIS = [abi.name.lower() for abi in Abi]

Places = npt.NDArray[np.int64]


#: A batch of rows by table. Columns of text are the indexes of their texts: see ColumnTexts.
Rows = dict[str, pa.RecordBatch]


class RowMaker:
    """`clock_ns`: what to add to a time of the records to get CLOCK_REALTIME."""

    def __init__(self, clock_ns: int) -> None:
        self._clock_ns = clock_ns
        self._seq = 0
        self._texts = ColumnTexts()

    def rows(self, joined: JoinedCalls, texts: ColumnTexts) -> Rows:
        """`texts`: takes the texts of the rows."""
        self._texts = texts
        records = chosen(joined.events, joined.order)
        seq = np.arange(self._seq, self._seq + len(records))
        self._seq += len(records)
        types = np.ascontiguousarray(records["type"])
        is_signal, is_end = types == EventType.SIGNAL, types == EventType.THREAD_END
        is_request = types >= EventType.IO_REQUEST
        is_call = ~(is_signal | is_end | is_request)
        among = None if is_call.all() else np.flatnonzero(is_call)
        return {
            "syscalls": self._calls(joined, records, seq, among),
            "signals": self._signals(chosen(records, is_signal), seq[is_signal]),
            "exits": self._exits(chosen(records, is_end), seq[is_end]),
            "io_uring": self._requests(chosen(records, is_request), seq[is_request]),
        }

    def heap_rows(self, events: Batch, texts: ColumnTexts) -> Rows:
        """The rows of events of kwatch.wire.events.HEAP, in order of time."""
        return heap_rows(events, self._clock_ns, texts)

    def _calls(
        self,
        joined: JoinedCalls,
        records: npt.NDArray[np.void],
        seq: Places,
        among: Places | None,
    ) -> pa.RecordBatch:
        order, entries = joined.order, joined.entries
        if among is not None:
            records, seq = chosen(records, among), seq[among]
            order, entries = order[among], entries[among]
        contents = CallContents(joined, records, order, entries)
        rows = _table_rows(records)
        never = _never_returns()[rows]
        is_over = (records["type"] == EventType.SYSCALL) & ~never
        has_duration = is_over
        result = np.ascontiguousarray(records["result"])
        duration = np.ascontiguousarray(records["duration_ns"]).view(np.int64)
        columns = [
            pa.array(seq),
            pa.array(self._times(records) - duration),
            pa.array(duration, mask=~has_duration),
            *_identity(records),
            self._comms("syscalls", records),
            self._by_number("syscalls", "kind", records["type"].astype(np.intp), _KINDS),
            self._by_number("syscalls", "name", rows, _names()),
            pa.array(np.ascontiguousarray(records["nr"]).astype(np.int16)),
            self._abis("syscalls", records),
            pa.array(result, mask=~is_over),
            self._errors("syscalls", records["abi"], result, is_over),
            *_arguments(records["arguments"], _words()[rows]),
            self._texts["syscalls", "path"].encode(contents.paths(_path_words()[rows]), escaped),
            pa.array(np.ascontiguousarray(records["ip"]).view(np.int64)),
            pa.array(np.ascontiguousarray(records["uid"]).view(np.int32)),
            pa.array(np.ascontiguousarray(records["cgroup_id"]).view(np.int64)),
            pa.array(np.ascontiguousarray(records["entry_tid"]).view(np.int32)),
            stack_column(records),
            pa.array(records["flags"] & np.uint16(4) > 0),
            *contents.pieces(),
            contents.data(),
        ]
        return pa.RecordBatch.from_arrays(columns, SYSCALLS.names)

    def _signals(self, records: npt.NDArray[np.void], seq: Places) -> pa.RecordBatch:
        columns = [
            pa.array(seq),
            pa.array(self._times(records)),
            *_identity(records),
            self._comms("signals", records),
            pa.array(records["result"].astype(np.int32)),
            self._abis("signals", records),
            fixed_binary(np.ascontiguousarray(records["arguments"]).view("V48").ravel()),
        ]
        return pa.RecordBatch.from_arrays(columns, SIGNALS.names)

    def _exits(self, records: npt.NDArray[np.void], seq: Places) -> pa.RecordBatch:
        columns = [
            pa.array(seq),
            pa.array(self._times(records)),
            *_identity(records),
            self._comms("exits", records),
            pa.array(records["result"].astype(np.int32)),
        ]
        return pa.RecordBatch.from_arrays(columns, EXITS.names)

    def _requests(self, records: npt.NDArray[np.void], seq: Places) -> pa.RecordBatch:
        numbers = records["nr"].astype(np.intp)
        duration = np.ascontiguousarray(records["duration_ns"]).view(np.int64)
        result = np.ascontiguousarray(records["result"])
        abis, is_over = (
            np.ascontiguousarray(records["abi"]),
            records["type"] == EventType.IO_REQUEST,
        )
        columns = [
            pa.array(seq),
            pa.array(self._times(records) - duration),
            pa.array(duration, mask=~is_over | (numbers == UNKNOWN_OPCODE)),
            *_identity(records),
            self._comms("io_uring", records),
            self._by_number("io_uring", "operation", numbers, _operations()),
            pa.array(numbers.astype(np.int32)),
            pa.array(result, mask=~is_over),
            self._errors("io_uring", abis, result, is_over),
            *(pa.array(records["arguments"][:, i].astype(np.int64)) for i in range(3)),
            self._abis("io_uring", records),
        ]
        return pa.RecordBatch.from_arrays(columns, IO_URING.names)

    def _times(self, records: npt.NDArray[np.void]) -> Places:
        return np.ascontiguousarray(records["time_ns"]).view(np.int64) + self._clock_ns

    def _comms(self, table: str, records: npt.NDArray[np.void]) -> pa.Array:
        comms = np.ascontiguousarray(records["comm"])
        return self._texts[table, "comm"].encode_runs(comms, _comm)

    def _abis(self, table: str, records: npt.NDArray[np.void]) -> pa.Array:
        return self._by_number(table, "abi", records["abi"].astype(np.intp), _ABIS)

    def _by_number(
        self, table: str, column: str, numbers: npt.NDArray[np.intp], texts: ByNumber
    ) -> pa.Array:
        return self._texts[table, column].by_number(numbers, texts)

    def _errors(
        self,
        table: str,
        abis: npt.NDArray[np.uint8],
        result: Places,
        is_over: npt.NDArray[np.bool_],
    ) -> pa.Array:
        failed = is_over & (result < 0) & (result >= -_MAX_ERRNO)
        indexes = np.zeros(len(result), np.int32)
        at = np.flatnonzero(failed)
        keys = abis[at].astype(np.int64) << 16 | -result[at]
        for key in set(keys.tolist()):
            name = _error_name(Abi(key >> 16), key & 0xFFFF)
            indexes[at[keys == key]] = self._texts[table, "error"].add(name)
        return pa.array(indexes, mask=~failed)


def _identity(records: npt.NDArray[np.void]) -> list[pa.Array]:
    return [
        pa.array(np.ascontiguousarray(records[field]).view(np.int32)) for field in ("tgid", "tid")
    ]


def _arguments(words: npt.NDArray[np.uint64], counts: npt.NDArray[np.uint8]) -> list[pa.Array]:
    """The registers; 0 for those that the call does not have."""
    found = []
    for i in range(len(ARGUMENTS)):
        column = np.ascontiguousarray(words[:, i]).view(np.int64)
        column[counts <= i] = 0
        found.append(pa.array(column))
    return found


def _comm(data: bytes) -> str:
    return escaped(data.partition(b"\0")[0])


def _table_rows(records: npt.NDArray[np.void]) -> npt.NDArray[np.intp]:
    """The index of each call in the tables below."""
    rows = records["abi"].astype(np.intp) * CALL_NUMBERS
    rows += np.minimum(records["nr"], CALL_NUMBERS - 1)
    return rows


@functools.cache
def _names() -> list[str]:
    return [names.name(abi, nr) for abi in Abi for nr in range(CALL_NUMBERS)]


@functools.cache
def _words() -> npt.NDArray[np.uint8]:
    """How many registers hold arguments."""
    found = [calls.call(abi, nr) for abi in Abi for nr in range(CALL_NUMBERS)]
    return np.array([_ALL_WORDS if each is None else each.words for each in found], np.uint8)


@functools.cache
def _path_words() -> npt.NDArray[np.uint8]:
    """The register of the first path, NO_PATH without one."""
    found = [first_words(abi, nr)[1] for abi in Abi for nr in range(CALL_NUMBERS)]
    return np.array([NO_PATH if word is None else word for word in found], np.uint8)


@functools.cache
def _never_returns() -> npt.NDArray[np.bool_]:
    return np.array([name in ("exit", "exit_group") for name in _names()])


@functools.cache
def _operations() -> dict[int, str]:
    return {number: operation(number) for number in (*range(256), UNKNOWN_OPCODE)}


def _error_name(abi: Abi, number: int) -> str:
    """The name; the number for one without."""
    texts = named_set("errno", abi)
    assert texts is not None
    return texts[number]


def warm_up() -> None:
    """Makes the tables of all calls, which takes a moment."""
    for make in (_names, _words, _path_words, _never_returns):
        make()
