# SPDX-License-Identifier: Apache-2.0
"""`kwatch trace --errors` counts the calls that fail, compared with what a program says."""

from __future__ import annotations

import pytest


def test_failures_by_call_error_path_and_thread(start, run_kwatch):
    target = start("fails")
    kwatch = run_kwatch("trace", "--errors", "--json", "--pid", target.pid)
    kwatch.attached()
    answers = target.go()
    target.end()
    (found,) = kwatch.finish().documents
    opens, closes = (
        next(each for each in found["calls"] if (each["name"], each["error"]) == failure)
        for failure in (("openat", "ENOENT"), ("close", "EBADF"))
    )
    assert opens["paths"] == [
        {"path": "/nonexistent/often", "failures": answers["often"]},
        {"path": "/nonexistent/seldom", "failures": answers["seldom"]},
    ]
    assert opens["failures"] == answers["often"] + answers["seldom"]
    assert (closes["failures"], closes["paths"]) == (answers["closes"], [])
    assert found["failures"] == sum(each["failures"] for each in found["calls"])
    first, second = found["threads"]
    assert (first["pid"], first["tid"]) == (target.pid, target.pid)
    assert (second["pid"], second["failures"]) == (target.pid, answers["of_thread"])
    assert first["failures"] + second["failures"] == found["failures"]


@pytest.mark.parametrize("ends_first", ["target", "kwatch"])
def test_the_table_is_written_at_the_end(start, run_kwatch, ends_first):
    target = start("fails")
    options = ("--filter", "path endswith often", "-e", "trace=%file")
    kwatch = run_kwatch("trace", "--errors", *options, "--pid", target.pid)
    kwatch.attached()
    answers = target.go()
    if ends_first == "target":
        target.end()
        lines = kwatch.finish().stdout
    else:
        lines = kwatch.stop().stdout
        target.end()
    often = f"{answers['often']:8,}"
    assert lines[:4] == [
        "FAILURES  CALL",
        f"{often}  openat ENOENT",
        f"{often}    /nonexistent/often",
        f"{often}  total",
    ]
    own = answers["often"] - answers["of_thread"]
    assert lines[6] == f"{own:8,}  fails[{target.pid}]"
    assert len(lines) == 8


def test_nothing_that_fails(run_kwatch):
    result = run_kwatch("trace", "--errors", "-e", "trace=exit_group", "--", "true").finish()
    assert result.stdout == ["no system call failed"]


def test_options_that_leave_nothing_to_do(run_kwatch):
    result = run_kwatch("trace", "--errors", "-y", "--", "true").finish()
    assert result.status == 2
    assert any("--errors shows no descriptors" in line for line in result.stderr)
