# SPDX-License-Identifier: Apache-2.0
"""The columns that `kwatch query` shows of each table: their expressions in SQL and meanings."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from kwatch.recording.schema import ARGUMENTS
from kwatch.sinks.signal_text import signal_name
from kwatch.syscalls import calls, names
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS

#: The function that makes the text of a call: kwatch.recording.call_texts.
CALL_TEXT = "kwatch_call_text"
#: The fields of its argument.
TEXT_COLUMNS = (
    *("kind", "abi", "nr", "name", "ret"),
    *ARGUMENTS,
    *("entry_pieces", "exit_pieces", "data"),
)

#: Columns of the files that `kwatch query` does not show, with their meanings.
HIDDEN = {
    "syscalls": {
        "entry_pieces": "what the entry's own record had: 13 lengths of 2 bytes, 65535 for nothing",
        "exit_pieces": "the same of all else that was captured",
        "data": "the bytes of these pieces, one after the other",
    }
}

_MAX_SIGNAL = 64
_HIGH_BIT = 1 << 31


class Column(NamedTuple):
    """`expression`: SQL over the columns of the files; empty for one of them."""

    name: str
    meaning: str
    expression: str = ""


_EVENT = (
    Column("ts_ns", "when it happened, in nanoseconds since 1970"),
    Column("ts", "the same in UTC, in microseconds", "make_timestamp(ts_ns // 1000)"),
    Column("pid", "the process"),
    Column("tid", "the thread"),
    Column("comm", "the name of the thread"),
)


def _run() -> str:
    """From the name of the file: kwatch.recording.store."""
    return r"regexp_extract(parse_filename(filename), '(.*)-\d+\.parquet', 1)"


_PLACE = (
    Column("host", "the machine"),
    Column("day", "the day on which the segment was begun, in UTC"),
    Column("run", "which run of the recorder: when it began, and its pid", _run()),
)
_STACK = Column("stack", "the call stack, which `stacks` has; null without one")
_SEQ = Column("seq", "counts what the recorder has written, from 0")


def _signal_names(number: str) -> str:
    cases = " ".join(f"WHEN {n} THEN '{signal_name(n)}'" for n in range(1, _MAX_SIGNAL + 1))
    return f"CASE {number} {cases} END"


#: Those of the tables that are not made of calls.
_OTHERS: Mapping[str, tuple[Column, ...]] = {
    "signals": (
        *_EVENT,
        Column("signal", "its number"),
        Column("name", "its name", _signal_names("signal")),
        Column("abi", "the ABI of the thread"),
        Column("siginfo", "the first bytes of its siginfo_t"),
        _SEQ,
        *_PLACE,
    ),
    "exits": (
        *_EVENT,
        Column("status", "as wait() returns it"),
        Column("code", "the exit code", "CASE status & 127 WHEN 0 THEN status >> 8 & 255 END"),
        Column("killed_by", "the signal that killed it", _signal_names("status & 127")),
        _SEQ,
        *_PLACE,
    ),
    "io_uring": (
        Column("ts_ns", "when it was submitted, in nanoseconds since 1970; if unknown, completed"),
        Column("ts", "the same in UTC, in microseconds", "make_timestamp(ts_ns // 1000)"),
        Column("duration_ns", "until it was completed; null if either was not seen"),
        *_EVENT[2:4],
        Column("comm", "the name of the thread that submitted it"),
        Column("operation", "what it does; ? if its submission was not seen"),
        Column("opcode", "the number of the operation; 65535 if unknown"),
        Column("ret", "its result; null if it was in progress when the recording ended"),
        Column("error", "the name of its error; null without one"),
        Column("user_data", "what the program gave it"),
        Column("flags", "IOSQE_ flags"),
        Column("cqe_flags", "IORING_CQE_F_ flags of the completion"),
        Column("abi", "the ABI of the kernel, to which the numbers belong"),
        _SEQ,
        *_PLACE,
    ),
    "processes": (
        Column("pid", "the process"),
        Column("parent", "the process that forked it; 0 if it is unknown"),
        Column("start_ns", "when it began, in nanoseconds since 1970"),
        Column("comm", "the name of the process"),
        Column("exe", "the path of its program"),
        Column("ended", "whether it ended before the end of the segment"),
        Column("killed_by", "the signal that killed it"),
        *_PLACE,
    ),
    "descriptors": (
        Column("pid", "the process"),
        Column("fd", "the descriptor; -100 is the working directory"),
        Column("target", "what /proc/PID/fd says; bytes that do not print are escaped"),
        Column("survives_exec", "whether an exec leaves it open"),
        *_PLACE,
    ),
    "mappings": (
        Column("ts_ns", "since when, in nanoseconds since 1970"),
        Column("pid", "the process"),
        Column("start", "the first address"),
        Column("stop", "the address behind the last one"),
        Column("file_offset", "where `start` is in the file"),
        Column("path", "of the file, as the kernel shows it; bytes that do not print are escaped"),
        Column("build_id", "of the file, in hexadecimal; null if it has none or is out of reach"),
        *_PLACE,
    ),
    "heap": (
        *_EVENT[:4],
        Column("kind", "alloc, free, realloc frees, map, unmap and others"),
        Column("function", "the allocator function"),
        Column("address", "of the block or mapping"),
        Column("size", "its bytes; null for a free"),
        _STACK,
        *_PLACE,
    ),
    "short_lived": (
        Column("ts_ns", "when the first one began, in nanoseconds since 1970"),
        Column("pid", "the process"),
        _STACK,
        Column("blocks", "how many there were"),
        Column("bytes", "their bytes"),
        *_PLACE,
    ),
    "stacks": (
        Column("pid", "the process"),
        Column("stack", "its identity in the process"),
        Column("ending", "how it ends: see docs/stacks.md"),
        Column("frames", "function, file and source line of each frame, innermost first"),
        *_PLACE,
    ),
    "losses": (
        Column("cause", "why: see docs/semantics.md"),
        Column("events", "how many events"),
        *_PLACE,
    ),
    "calls": (
        Column("abi", "the ABI"),
        Column("nr", "the number"),
        Column("name", "the name"),
        Column("effect", "what it reads or writes: status or content"),
        Column("arguments", "the names of its arguments"),
        *_PLACE,
    ),
}


@functools.cache
def columns() -> Mapping[str, tuple[Column, ...]]:
    """The columns of each table."""
    return {"syscalls": _syscalls(), **_OTHERS}


def _syscalls() -> tuple[Column, ...]:
    return (
        Column("ts_ns", "when the call began, in nanoseconds since 1970"),
        *_EVENT[1:2],
        Column("duration_ns", "the time spent in it; null if it did not return"),
        *_EVENT[2:],
        Column("kind", "call, unfinished (its thread ended) or in progress (the recording ended)"),
        Column("name", "the name of the call"),
        Column("nr", "the number of the call"),
        Column("abi", "the ABI of the call"),
        Column("ret", "what it returned; null if it did not"),
        Column("error", "the name of its error; null without one"),
        *(Column(name, f"register {i}, signed") for i, name in enumerate(ARGUMENTS)),
        Column("path", "the first path among its arguments; bytes that do not print are escaped"),
        Column("fd", "the first descriptor among its arguments", _descriptor()),
        Column("text", "the line that `kwatch show` prints", _call_text()),
        Column("ip", "where the program goes on after the call"),
        _STACK,
        Column("uid", "the real user of the thread when the call began"),
        Column("cgroup_id", "its control group then: the inode number"),
        Column("entry_tid", "the thread when the call began, which an exec may change"),
        Column("content_lost", "whether some of what its arguments point to was lost"),
        _SEQ,
        *_PLACE,
    )


def _call_text() -> str:
    fields = ", ".join(f"{name} := {name}" for name in TEXT_COLUMNS)
    return f"{CALL_TEXT}(struct_pack({fields}))"


def _descriptor() -> str:
    """The lower half of the register that the call chooses."""
    cases = []
    by_word: dict[int, list[str]] = {}
    for name, words in _descriptor_registers().items():
        same = set(words.values())
        if len(same) > 1:
            cases += [
                f"WHEN name = '{name}' AND abi = '{abi.name.lower()}' THEN {_register(word)}"
                for abi, word in words.items()
            ]
        elif (word := same.pop()) is not None:
            by_word.setdefault(word, []).append(name)
    for word, listed in sorted(by_word.items()):
        among = ", ".join(f"'{name}'" for name in listed)
        cases.append(f"WHEN name IN ({among}) THEN {_register(word)}")
    return f"(xor(CASE {' '.join(cases)} END, {_HIGH_BIT}) - {_HIGH_BIT})::INTEGER"


def _register(word: int | None) -> str:
    return "NULL" if word is None else f"arg{word} & {2 * _HIGH_BIT - 1}"


def _descriptor_registers() -> Mapping[str, Mapping[Abi, int | None]]:
    """The register of the first descriptor of each call, by ABI."""
    found: dict[str, dict[Abi, int | None]] = {}
    for abi in Abi:
        for nr in range(CALL_NUMBERS):
            if (call := calls.call(abi, nr)) is not None:
                first = call.descriptor
                word = first.word if first is not None else None
                found.setdefault(names.name(abi, nr), {})[abi] = word
    return found
