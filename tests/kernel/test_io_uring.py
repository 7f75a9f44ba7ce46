# SPDX-License-Identifier: Apache-2.0
"""Requests of io_uring are rows of their own, with the results that the program prints."""

from __future__ import annotations

import errno
import json

import duckdb
import pytest

#: User data by operation.
GIVEN = {"nop": 11, "write": 22, "read": 33, "openat": 44, "timeout": 55, "poll_add": 66}
IOSQE_ASYNC, CQE_F_MORE = 16, 2

pytestmark = pytest.mark.needs("io_uring")


@pytest.mark.parametrize("by_kernel_thread", [0, 1], ids=["enter", "sqpoll"])
def test_the_requests_of_a_program(start, run_kwatch, tmp_path, by_kernel_thread):
    target = start("io_requests", by_kernel_thread)
    kwatch = run_kwatch("record", tmp_path / "run", "--pid", target.pid)
    kwatch.attached()
    answers = target.go()
    kwatch.stop()
    table = f"'{tmp_path}/run/io_uring/*/*/*.parquet'"
    rows = duckdb.sql(f"from {table} order by seq").fetchall()
    names = duckdb.sql(f"from {table}").columns
    found = [dict(zip(names, row, strict=True)) for row in rows]
    assert [each["operation"] for each in found] == [*GIVEN, "poll_add"]
    for each in found:
        name = each["operation"]
        assert each["user_data"] == GIVEN[name]
        assert each["ret"] == answers[name.removesuffix("_add")]
        assert each["error"] == (errno.errorcode[-each["ret"]] if each["ret"] < 0 else None)
        assert each["flags"] == (IOSQE_ASYNC if name == "read" else 0)
        assert each["cqe_flags"] == (CQE_F_MORE if name == "poll_add" else 0)
        assert each["pid"] == target.pid
        assert (each["tid"] == target.pid) == (not by_kernel_thread)
    took = {each["operation"]: each["duration_ns"] for each in found}
    assert 20_000_000 <= took["timeout"] < 10_000_000_000
    shown = run_kwatch("show", tmp_path / "run", "-e", "trace=io_uring_enter").finish().stdout
    assert sum("io_uring:" in line for line in shown) == len(found)


@pytest.mark.parametrize(
    ("options", "seen"),
    [((), 8), (("-e", "trace=io_uring_enter"), 8), (("-e", "trace=read"), 0), (("-Z",), 3)],
)
def test_which_lines_a_trace_has(run_kwatch, program, options, seen):
    """The poll ends with the process: it is cancelled."""
    traced = run_kwatch("trace", "--json", *options, "--", program("io_requests"), "now").finish()
    lines = [json.loads(line) for line in traced.stdout if line.startswith("{")]
    found = [line for line in lines if line["kind"] == "io_uring"]
    assert len(found) == seen
    if seen:
        assert ("ENOENT", 44) in {(each["error"], each["user_data"]) for each in found}
