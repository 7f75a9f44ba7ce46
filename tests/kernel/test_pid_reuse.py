# SPDX-License-Identifier: Apache-2.0
"""A reused pid is another process, with its own start time, heap and system calls."""

from __future__ import annotations

import itertools

FOLLOW = ("--json", "--follow", "-e", "trace=getppid")


def attached_again(pid):
    """Matches the second `attached` line of the pid."""
    seen = itertools.count(1)
    return lambda line: line.startswith(f"attached to pidreuse[{pid}]; heap") and next(seen) == 2


def reports_of(result, pid):
    return [document for document in result.documents if document["process"]["pid"] == pid]


def test_two_processes_of_one_pid(start, run_kwatch):
    target = start("pidreuse")
    kwatch = run_kwatch("--pid", target.pid, *FOLLOW)
    kwatch.attached()
    pid = target.go("first")["pid"]
    kwatch.said(lambda line: line.startswith(f"attached to pidreuse[{pid}]; heap"))
    assert target.go("second")["pid"] == pid
    kwatch.said(attached_again(pid))
    answers = target.go()
    target.end()
    first, second = reports_of(kwatch.finish(), pid)
    assert first["process"]["exited"]
    assert second["process"]["exited"]
    assert first["process"]["start_time"] < second["process"]["start_time"]
    for report, name in ((first, "first"), (second, "second")):
        assert report["heap"]["live_blocks"] == answers[f"{name}_blocks"]
        assert report["heap"]["allocs"] == answers[f"{name}_blocks"]
        assert report["syscalls"]["calls"] == answers[f"{name}_calls"]


def test_reused_at_once(program, run_kwatch):
    """Both processes end before kwatch can look at either."""
    result = run_kwatch(*FOLLOW, "--no-heap", "--", program("pidreuse"), "now").finish()
    answers = result.answers
    first, second = reports_of(result, answers["pid"])
    assert first["process"]["start_time"] < second["process"]["start_time"]
    assert first["syscalls"]["calls"] == answers["first_calls"]
    assert second["syscalls"]["calls"] == answers["second_calls"]
