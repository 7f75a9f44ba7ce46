# SPDX-License-Identifier: Apache-2.0
"""Failed system calls as a table or a JSON object, at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from kwatch.model.call_errors import CallFailures, ErrorSummary
from kwatch.syscalls.decode import text
from kwatch.syscalls.decode.sets import named_set
from kwatch.units import counted, printable
from kwatch.wire.events import Abi

_MAX_PATHS = 10  # of a call and error in the table
_MAX_THREADS = 20


def error_table(summary: ErrorSummary) -> str:
    """The most frequent paths below each call and error."""
    return "".join(f"{line}\n" for line in _lines(summary))


def error_json(summary: ErrorSummary) -> str:
    """All that was kept, as one line."""
    return f"{json.dumps(_object(summary))}\n"


def _lines(summary: ErrorSummary) -> Iterator[str]:
    if not summary.failures:
        yield "no system call failed"
        return
    width = max(len("FAILURES"), len(f"{summary.failures:,}"))
    yield f"{'FAILURES':>{width}}  CALL"
    for each in summary.calls:
        yield f"{each.failures:{width},}  {each.name} {_error(each.error)}"
        for count, path in _path_rows(each):
            yield f"{count:{width},}    {path}"
    yield f"{summary.failures:{width},}  total"
    yield ""
    yield f"{'FAILURES':>{width}}  THREAD"
    for thread in summary.threads[:_MAX_THREADS]:
        name = printable(os.fsdecode(thread.comm))
        own = f", tid {thread.tid}" if thread.tid != thread.pid else ""
        yield f"{thread.failures:{width},}  {name}[{thread.pid}]{own}"
    rest = summary.threads[_MAX_THREADS:]
    if others := sum(each.failures for each in rest) + summary.other_threads:
        number = counted(len(rest), "other thread") if not summary.other_threads else "others"
        yield f"{others:{width},}  ({number})"


def _path_rows(each: CallFailures) -> Iterator[tuple[int, str]]:
    """The most frequent paths and the rest, which add up to all failures that have a path."""
    shown = len(each.paths) if len(each.paths) <= _MAX_PATHS + 1 else _MAX_PATHS
    for path, count in each.paths[:shown]:
        yield count, text.escaped(path) or '""'
    rest = each.paths[shown:]
    if others := sum(count for _, count in rest) + each.other_paths:
        number = counted(len(rest), "other path") if not each.other_paths else "other paths"
        yield others, f"({number})"


def _error(number: int) -> str:
    names = named_set("errno", Abi.X86_64)
    assert names is not None
    return names[number]


def _object(summary: ErrorSummary) -> dict[str, object]:
    return {
        "kind": "errors",
        "failures": summary.failures,
        "calls": [
            {
                "name": each.name,
                "error": _error(each.error),
                "failures": each.failures,
                "paths": [
                    {"path": os.fsdecode(path), "failures": count} for path, count in each.paths
                ],
                "other_paths": each.other_paths,
            }
            for each in summary.calls
        ],
        "threads": [
            {
                "pid": each.pid,
                "tid": each.tid,
                "comm": os.fsdecode(each.comm),
                "failures": each.failures,
            }
            for each in summary.threads
        ],
        "other_threads": summary.other_threads,
    }
