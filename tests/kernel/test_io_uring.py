# SPDX-License-Identifier: Apache-2.0
"""Requests of io_uring are rows of their own, with the results that the program prints."""

from __future__ import annotations

import errno
import json

import pytest

#: User data by operation.
GIVEN = {"nop": 11, "write": 22, "read": 33, "openat": 44, "timeout": 55, "poll_add": 66}
IOSQE_ASYNC, CQE_F_MORE = 16, 2

pytestmark = pytest.mark.needs("io_uring")


def requests(lines):
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [each for each in found if each["kind"].startswith("io_uring")]


@pytest.mark.parametrize("by_kernel_thread", [0, 1], ids=["enter", "sqpoll"])
def test_the_requests_of_a_program(start, run_kwatch, by_kernel_thread):
    target = start("io_requests", by_kernel_thread)
    kwatch = run_kwatch("trace", "--json", "--pid", target.pid)
    kwatch.attached()
    answers = target.go()
    found = requests(kwatch.stop().stdout)
    pending = found.pop()
    assert (pending["kind"], pending["name"]) == ("io_uring in progress", "io_uring:poll_add")
    assert (pending["user_data"], pending["ret"]) == (GIVEN["poll_add"], None)
    names = [each["name"].removeprefix("io_uring:") for each in found]
    assert names == [*GIVEN, "poll_add"]
    for name, each in zip(names, found, strict=True):
        assert each["user_data"] == GIVEN[name]
        assert each["ret"] == answers[name.removesuffix("_add")]
        assert each["error"] == (errno.errorcode[-each["ret"]] if each["ret"] < 0 else None)
        assert each["flags"] == (IOSQE_ASYNC if name == "read" else 0)
        assert each["cqe_flags"] == (CQE_F_MORE if name == "poll_add" else 0)
        assert each["pid"] == target.pid
        assert (each["tid"] == target.pid) == (not by_kernel_thread)
    took = found[names.index("timeout")]["duration_ns"]
    assert 20_000_000 <= took < 10_000_000_000


def test_requests_are_recorded(run_kwatch, program, tmp_path):
    run = tmp_path / "run"
    assert run_kwatch("record", run, "--", program("io_requests"), "now").finish().status == 0
    sql = "select operation, ret, error from io_uring where user_data = 44"
    result = run_kwatch("query", run, "--json", sql).finish()
    assert result.documents == [{"operation": "openat", "ret": -errno.ENOENT, "error": "ENOENT"}]
    shown = run_kwatch("show", run, "--json", "-e", "trace=io_uring_enter").finish()
    assert len(requests(shown.stdout)) == 8


@pytest.mark.parametrize(
    ("options", "seen"),
    [((), 8), (("-e", "trace=io_uring_enter"), 8), (("-e", "trace=read"), 0), (("-Z",), 3)],
)
def test_which_lines_a_trace_has(run_kwatch, program, options, seen):
    """The poll ends with the process: it is cancelled."""
    traced = run_kwatch("trace", "--json", *options, "--", program("io_requests"), "now").finish()
    found = requests(traced.stdout)
    assert len(found) == seen
    if seen:
        assert ("ENOENT", 44) in {(each["error"], each["user_data"]) for each in found}
