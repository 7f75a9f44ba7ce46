# SPDX-License-Identifier: Apache-2.0
"""The tables of a recording as Arrow schemas, and the version of the format.

docs/recordings.md says what each column means.
"""

from __future__ import annotations

import pyarrow as pa

#: A reader refuses recordings of a later version.
FORMAT = 1

_TEXT = pa.dictionary(pa.int32(), pa.string())
_LENGTHS = pa.binary(26)  # PIECES lengths of 2 bytes, NO_PIECE for a piece that was not captured

ARGUMENTS = tuple(f"arg{i}" for i in range(6))

SYSCALLS = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("duration_ns", pa.int64()),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("tid", pa.int32(), nullable=False),
        pa.field("comm", _TEXT, nullable=False),
        pa.field("kind", _TEXT, nullable=False),
        pa.field("name", _TEXT, nullable=False),
        pa.field("nr", pa.int16(), nullable=False),
        pa.field("abi", _TEXT, nullable=False),
        pa.field("ret", pa.int64()),
        pa.field("error", _TEXT),
        *(pa.field(name, pa.int64(), nullable=False) for name in ARGUMENTS),
        pa.field("path", _TEXT),
        pa.field("ip", pa.int64(), nullable=False),
        pa.field("uid", pa.int32(), nullable=False),
        pa.field("cgroup_id", pa.int64(), nullable=False),
        pa.field("entry_tid", pa.int32(), nullable=False),
        pa.field("stack", pa.int64()),
        pa.field("content_lost", pa.bool_(), nullable=False),
        pa.field("entry_pieces", _LENGTHS),
        pa.field("exit_pieces", _LENGTHS),
        pa.field("data", pa.binary(), nullable=False),
    ]
)

SIGNALS = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("tid", pa.int32(), nullable=False),
        pa.field("comm", _TEXT, nullable=False),
        pa.field("signal", pa.int32(), nullable=False),
        pa.field("abi", _TEXT, nullable=False),
        pa.field("siginfo", pa.binary(48), nullable=False),
    ]
)

EXITS = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("tid", pa.int32(), nullable=False),
        pa.field("comm", _TEXT, nullable=False),
        pa.field("status", pa.int32(), nullable=False),
    ]
)

IO_URING = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("duration_ns", pa.int64()),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("tid", pa.int32(), nullable=False),
        pa.field("comm", _TEXT, nullable=False),
        pa.field("operation", _TEXT, nullable=False),
        pa.field("opcode", pa.int32(), nullable=False),
        pa.field("ret", pa.int64()),
        pa.field("error", _TEXT),
        pa.field("user_data", pa.int64(), nullable=False),
        pa.field("flags", pa.int64(), nullable=False),
        pa.field("cqe_flags", pa.int64(), nullable=False),
        pa.field("abi", _TEXT, nullable=False),
    ]
)

PROCESSES = pa.schema(
    [
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("parent", pa.int32(), nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("comm", pa.string(), nullable=False),
        pa.field("exe", pa.string(), nullable=False),
        pa.field("ended", pa.bool_(), nullable=False),
        pa.field("killed_by", pa.string()),
    ]
)

DESCRIPTORS = pa.schema(
    [
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("fd", pa.int32(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("survives_exec", pa.bool_(), nullable=False),
    ]
)

MAPPINGS = pa.schema(
    [
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("file_offset", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("build_id", pa.string()),
    ]
)

HEAP = pa.schema(
    [
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("tid", pa.int32(), nullable=False),
        pa.field("kind", _TEXT, nullable=False),
        pa.field("function", _TEXT),
        pa.field("address", pa.int64(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("stack", pa.int64()),
    ]
)

SHORT_LIVED = pa.schema(
    [
        pa.field("ts_ns", pa.int64(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("stack", pa.int64()),
        pa.field("blocks", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)

STACKS = pa.schema(
    [
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("stack", pa.int64(), nullable=False),
        pa.field("ending", pa.string(), nullable=False),
        pa.field("frames", pa.list_(pa.string()), nullable=False),
    ]
)

LOSSES = pa.schema(
    [
        pa.field("cause", pa.string(), nullable=False),
        pa.field("events", pa.int64(), nullable=False),
    ]
)

CALLS = pa.schema(
    [
        pa.field("abi", pa.string(), nullable=False),
        pa.field("nr", pa.int16(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("effect", pa.string(), nullable=False),
        pa.field("arguments", pa.list_(pa.string()), nullable=False),
    ]
)

#: By the name of the table, which is also that of its folder.
TABLES = {
    "syscalls": SYSCALLS,
    "signals": SIGNALS,
    "exits": EXITS,
    "io_uring": IO_URING,
    "processes": PROCESSES,
    "descriptors": DESCRIPTORS,
    "mappings": MAPPINGS,
    "heap": HEAP,
    "short_lived": SHORT_LIVED,
    "stacks": STACKS,
    "losses": LOSSES,
    "calls": CALLS,
}

#: What a table tells, for `kwatch query --tables`.
MEANINGS = {
    "syscalls": "every system call, in the order in which they returned",
    "signals": "every signal that was delivered",
    "exits": "every thread that ended",
    "io_uring": "completed requests of io_uring, which need no system calls",
    "processes": "the processes that made the calls, once for each segment",
    "descriptors": "what the processes had open when the segment began; -100: their directory",
    "mappings": "the code that the processes have mapped, again for each segment",
    "heap": "allocations and releases of blocks, in the order in which they happened",
    "short_lived": "sums of blocks that their thread released soon, which are not in `heap`",
    "stacks": "the call stacks to which `syscalls` and `heap` refer, innermost frame first",
    "losses": "what could not be recorded, by cause, for each segment",
    "calls": "the system calls by ABI and number, with their effects and arguments",
}
