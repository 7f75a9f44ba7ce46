# SPDX-License-Identifier: Apache-2.0
"""System calls that the kernel sums up: each counts once, whatever happens meanwhile."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

CALLS = ("--json", "--no-heap")
GETPPID = (*CALLS, "-e", "trace=getppid")
MAX_OTHERS = 4  # calls of a child beside those that are counted: fork() makes some, and exit_group


def finals(result):
    return [each for each in result.documents if each["kind"] == "final"]


def figures(result):
    """Calls, errors and unfinished calls by name, of all processes."""
    found: dict[str, Counter[str]] = {}
    for document in finals(result):
        for row in document["syscalls"]["by_name"]:
            numbers = {key: row.get(key, 0) for key in ("calls", "errors", "unfinished")}
            found.setdefault(row["name"], Counter()).update(numbers)
    return found


def assert_all_are_counted(children, each):
    """Also the calls that were sent, if the ring was full."""
    for child in children:
        assert child["lost"]["by_cause"].keys() <= {"syscall_ring_full"}
    (total,) = {child["syscalls"]["calls"] + child["lost"]["events"] for child in children}
    assert each < total <= each + MAX_OTHERS


def test_a_stopped_reader_loses_nothing(start, run_kwatch):
    """Four threads make far more calls than the rings have room for."""
    target = start("getppid", 4, 400_009)
    kwatch = run_kwatch("--pid", target.pid, *GETPPID, "--buffer", "64K")
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    answers = target.go()
    kwatch.send(signal.SIGCONT)
    target.end()
    final = kwatch.finish().final()
    assert final["lost"] == {"events": 0, "by_cause": {}}
    (row,) = final["syscalls"]["by_name"]
    assert row["calls"] == answers["getppid"]
    assert 0 < row["p50_ns"] <= row["p99_ns"] <= row["max_ns"]
    assert row["total_ns"] >= row["calls"] * row["p50_ns"] / 2


def test_both_ways_give_the_same_figures(program, run_kwatch):
    """With stacks, each call is an event of its own."""
    command = ("--follow", "--", program("numbers"), 2, 203, "now")
    summed, single = (
        figures(run_kwatch(*CALLS, *more, *command).finish()) for more in ((), ("--stacks",))
    )
    assert summed == single
    assert len(summed) > 400


@pytest.mark.parametrize("more", [(), ("--interval", "0.1")])
def test_calls_without_room_are_sent(start, run_kwatch, more):
    """Four processes take more than a CPU's table; the sums of those that end are freed."""
    target = start("numbers", 8)
    kwatch = run_kwatch("--pid", target.pid, "--follow", *CALLS, *more)
    kwatch.attached()
    target.go("first")
    answers = target.go()
    target.end()
    result = kwatch.finish()
    children = [each for each in finals(result) if each["process"]["pid"] != target.pid]
    assert len(children) == answers["processes"]
    assert_all_are_counted(children, answers["each"])


def test_idle_sums_make_room(start, run_kwatch):
    """Sums of processes that still run, but make no calls, are freed when others need the room."""
    target = start("numbers", 6)
    sleepers = [start("getppid", 1, 1009) for _ in range(2)]
    pids = ",".join(str(each.pid) for each in (target, *sleepers))
    kwatch = run_kwatch("--pid", pids, "--follow", *CALLS, "--interval", "1")
    kwatch.attached()
    for sleeper in sleepers:
        sleeper.go()
    target.go("first")
    seen = []
    kwatch.document(lambda each: seen.append(each) or len(seen) > 20)  # several windows
    answers = target.go()
    target.end()
    for sleeper in sleepers:
        sleeper.end()
    result = kwatch.finish()
    for sleeper in sleepers:
        rows = {each["name"]: each for each in result.final(sleeper.pid)["syscalls"]["by_name"]}
        assert rows["getppid"]["calls"] == 1009
    children = [each for each in finals(result) if each["syscalls"]["errors"] > 10_000]
    assert len(children) == answers["processes"]
    assert_all_are_counted(children, answers["each"])


def test_fork_exec_and_exit_while_counting(start, run_kwatch):
    target = start("busy")
    kwatch = run_kwatch("--pid", target.pid, "--follow", *GETPPID)
    kwatch.attached()
    answers = target.go()
    target.end()
    result = kwatch.finish()
    counts = Counter(
        each["syscalls"]["calls"] for each in finals(result) if each["process"]["pid"] != target.pid
    )
    third = answers["children"] // 3
    assert counts == {answers["calls"]: 2 * third, 3 * answers["calls"]: third}
    assert result.final(target.pid)["syscalls"]["calls"] == answers["parent"]
    assert not result.final(target.pid)["lost"]["events"]


def test_a_snapshot_has_all_calls_until_then(start, run_kwatch):
    """Also while the program goes on: the figures only grow, and the last ones are exact."""
    target = start("rate", 100_000, 3, 2)
    kwatch = run_kwatch("--pid", target.pid, *GETPPID, "--interval", "0.2")
    kwatch.attached()
    answers = target.go()
    snapshot = kwatch.document(lambda each: each["syscalls"]["calls"] == answers["getppid"])
    target.end()
    result = kwatch.finish()
    counts = [each["syscalls"]["calls"] for each in result.documents]
    assert counts == sorted(counts)
    assert snapshot["kind"] == "snapshot"
    assert len({count for count in counts if 0 < count < answers["getppid"]}) > 3


def test_every_process(start, run_kwatch):
    """Without a target."""
    target = start("getppid", 2, 50_021)
    kwatch = run_kwatch(*GETPPID)
    kwatch.attached()
    answers = target.go()
    target.end()
    kwatch.document(lambda each: each["process"]["pid"] == target.pid and each["kind"] == "final")
    result = kwatch.stop()
    assert result.final(target.pid)["syscalls"]["calls"] == answers["getppid"]
