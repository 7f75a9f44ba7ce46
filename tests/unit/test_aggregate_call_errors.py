# SPDX-License-Identifier: Apache-2.0
"""Failed calls are counted exactly, whatever is kept of their paths and threads."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kwatch.aggregate.call_errors import CallErrors
from kwatch.model.call_errors import CallFailures, PathFailures, ThreadFailures
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.sinks.error_summary import error_json, error_table
from kwatch.syscalls import names
from kwatch.syscalls.decode.formatter import NO_PIECES
from kwatch.wire.events import Abi

ENOENT, EBADF, EACCES = 2, 9, 13
WORDS = {"openat": 1, "unlink": 0}


def call(name="openat", result=-ENOENT, path=None, tid=1, pid=1, comm=b"app", **fields):
    pieces = list(NO_PIECES)
    if path is not None:
        pieces[WORDS[name]] = path + b"\0"
    moment = fields.get("moment", Moment.RETURNED)
    nr, took = names.number(Abi.X86_64, name), fields.get("duration_ns", 5)
    return TracedCall(
        moment, pid, tid, comm, Abi.X86_64, nr, name, 0, took, result, [0] * 6, pieces
    )


def summary(*calls, **limits):
    account = CallErrors(**limits)
    for each in calls:
        account.add(each)
    return account.summary()


def test_failures_by_call_error_and_path():
    found = summary(
        call(path=b"/a"),
        call(path=b"/b"),
        call(path=b"/b"),
        call(path=b"/b", result=-EACCES),
        call("unlink", path=b"/b"),
        call("close", result=-EBADF),
    )
    assert found.failures == 6
    assert found.calls == (
        CallFailures("openat", ENOENT, 3, (PathFailures(b"/b", 2), PathFailures(b"/a", 1)), 0),
        CallFailures("close", EBADF, 1, (), 0),
        CallFailures("openat", EACCES, 1, (PathFailures(b"/b", 1),), 0),
        CallFailures("unlink", ENOENT, 1, (PathFailures(b"/b", 1),), 0),
    )


def test_what_is_no_failure():
    found = summary(
        call(result=3),
        call("mmap", result=-5000),  # an address
        call("exit_group", result=-1, duration_ns=None),
        call(moment=Moment.UNFINISHED),
        call(moment=Moment.SIGNAL),
    )
    assert found == (0, (), (), 0)


def test_a_path_that_was_captured_after_the_call():
    late = call()
    late.pieces[7] = b"/late\0"
    assert summary(late).calls[0].paths == (PathFailures(b"/late", 1),)


def test_threads_and_their_last_names():
    found = summary(call(tid=2, comm=b"old"), call(tid=2, comm=b"new"), call(tid=3))
    assert found.threads == (ThreadFailures(1, 2, b"new", 2), ThreadFailures(1, 3, b"app", 1))


def test_no_more_paths_and_threads_than_there_is_room_for():
    calls = [call(path=b"/%d" % (i % 4), tid=i % 4) for i in range(12)]
    found = summary(*calls, max_paths=2, max_threads=3)
    assert found.calls == (
        CallFailures("openat", ENOENT, 12, (PathFailures(b"/0", 3), PathFailures(b"/1", 3)), 6),
    )
    assert [each.failures for each in found.threads] == [3, 3, 3]
    assert found.other_threads == 3


_CALLS = st.builds(
    call,
    name=st.sampled_from(["openat", "unlink"]),
    result=st.sampled_from([-ENOENT, -EACCES, 0]),
    path=st.sampled_from([None, b"/a", b"/b", b"/c"]),
    tid=st.integers(1, 4),
)


@given(st.lists(_CALLS), st.integers(0, 4), st.integers(0, 3))
def test_the_rows_add_up_and_kept_counts_are_exact(calls, max_paths, max_threads):
    found = summary(*calls, max_paths=max_paths, max_threads=max_threads)
    failed = [each for each in calls if each.result < 0]
    known = Counter((each.name, -each.result) for each in failed)
    paths = Counter(
        (each.name, -each.result, path.rstrip(b"\0"))
        for each in failed
        if (path := each.pieces[WORDS[each.name]]) is not None
    )
    assert {(each.name, each.error): each.failures for each in found.calls} == known
    kept = {(e.name, e.error, p.path): p.failures for e in found.calls for p in e.paths}
    assert kept.items() <= paths.items()
    assert len(kept) == min(len(paths), max_paths)
    others = sum(each.other_paths for each in found.calls)
    assert sum(kept.values()) + others == paths.total()
    assert sum(each.failures for each in found.threads) + found.other_threads == len(failed)


def test_the_table_has_the_most_frequent_paths():
    calls = [call(path=b"/missing") for _ in range(1200)]
    calls += [call(path=b"/%02d" % i) for i in range(20)]
    calls += [call(path=b"/new\nline", result=-EACCES), call("close", result=-EBADF, tid=7)]
    lines = error_table(summary(*calls)).splitlines()
    assert lines[:4] == [
        "FAILURES  CALL",
        "   1,220  openat ENOENT",
        "   1,200    /missing",
        "       1    /00",
    ]
    assert lines[11:18] == [
        "       1    /08",
        "      11    (11 other paths)",
        "       1  close EBADF",
        "       1  openat EACCES",
        "       1    /new\\nline",
        "   1,222  total",
        "",
    ]
    assert lines[18:] == ["FAILURES  THREAD", "   1,221  app[1]", "       1  app[1], tid 7"]


def test_paths_and_threads_that_were_not_kept_have_rows():
    calls = [call(path=b"/%02d" % i, tid=i + 1, pid=i + 1) for i in range(30)]
    lines = error_table(summary(*calls, max_paths=2, max_threads=25)).splitlines()
    assert "      28    (other paths)" in lines
    assert lines[-1] == "      10  (others)"
    assert error_table(summary()) == "no system call failed\n"


def test_the_object_has_all_that_was_kept():
    found = json.loads(error_json(summary(call(path=b"/\xff"), call(tid=2))))
    assert found["kind"] == "errors"
    assert found["failures"] == 2
    assert found["calls"] == [
        {
            "name": "openat",
            "error": "ENOENT",
            "failures": 2,
            "paths": [{"path": "/\udcff", "failures": 1}],
            "other_paths": 0,
        }
    ]
    assert [each["tid"] for each in found["threads"]] == [1, 2]
