# SPDX-License-Identifier: Apache-2.0
"""Stacks of system calls: who has made how many, exactly."""

from __future__ import annotations

from collections import Counter

import pytest

STACKS = ("--json", "--stacks", "--top", "10000")
CALLS_ALONE = (*STACKS, "--no-heap")
WHOLE = {"complete", "finished"}

OFTEN, DEPTH = 10007, 20
MAIN = ("all_places", "main")
RECURSION = ("deep",) * (DEPTH + 1)

#: What tests/programs/callsites.c does: calls of each name, by the functions outwards.
EXPECTED = {
    ("getppid", ("parent", "shallow", *MAIN)): OFTEN,
    ("dup", ("descriptor", "shallow", *MAIN)): OFTEN + 2,
    ("getppid", ("parent", "shallow", *RECURSION, *MAIN)): 101,
    ("dup", ("descriptor", "shallow", *RECURSION, *MAIN)): 103,
    ("getppid", ("left", "turns", *MAIN)): 997,
    ("getppid", ("right", "turns", *MAIN)): 997,
    ("getppid", ("parent", "handler", "signalled", *MAIN)): 13,
    ("getppid", ("parent", "thread")): 17,
}


def own_frames(stack):
    """The functions of the program itself."""
    return tuple(
        frame["symbol"]
        for frame in stack["frames"]
        if frame["module"].endswith("/callsites") and frame["symbol"] != "_start"
    )


def counted(final):
    calls = Counter()
    for stack in final["syscalls"]["stacks"]:
        if stack["name"] in ("getppid", "dup"):
            calls[stack["name"], own_frames(stack)] += stack["calls"]
            assert stack["ending"] in WHOLE, stack
            assert stack["errors"] == (stack["calls"] if stack["name"] == "dup" else 0)
    return calls


def assert_adds_up(final):
    """Every call has a stack, and what the stacks have is what the names have."""
    syscalls = final["syscalls"]
    for figure in ("calls", "errors", "total_ns"):
        by_name, by_stack = Counter(), Counter()
        for row in syscalls["by_name"]:
            by_name[row["name"]] += row[figure]
        for stack in syscalls["stacks"]:
            by_stack[stack["name"]] += stack[figure]
        assert +by_stack == +by_name
    assert syscalls["other_calls"] == 0
    assert final["lost"] == {"events": 0, "by_cause": {}}


@pytest.mark.parametrize("options", [CALLS_ALONE, STACKS], ids=["alone", "with the heap"])
def test_every_place(start, run_kwatch, options):
    target = start("callsites")
    kwatch = run_kwatch("--pid", target.pid, *options)
    kwatch.attached()
    target.go()
    target.end()
    final = kwatch.finish().final()
    assert counted(final) == EXPECTED
    assert_adds_up(final)
    assert sum(final["syscalls"]["endings"].values()) >= len(EXPECTED)


def test_launched_and_after_an_exec(program, run_kwatch):
    """The calls of both images count, those of the old one by its stacks."""
    result = run_kwatch(*CALLS_ALONE, "--", program("callsites"), "exec", "now").finish()
    final = result.final()
    assert counted(final) == {key: 2 * calls for key, calls in EXPECTED.items()}
    assert_adds_up(final)
    execs = [stack for stack in final["syscalls"]["stacks"] if stack["name"] == "execve"]
    assert {own_frames(stack) for stack in execs} == {(), ("main",)}
    assert {stack["ending"] for stack in execs} - WHOLE == {"off"}


def test_a_child_begins_without_calls(start, run_kwatch):
    target = start("stacks", "fork")
    kwatch = run_kwatch("--pid", target.pid, "--follow", *CALLS_ALONE)
    kwatch.attached()
    child = target.go("forked")["child"]
    target.go()
    target.end()
    result = kwatch.finish()
    for pid in (target.pid, child):
        assert_adds_up(result.final(pid))
    names = {stack["name"] for stack in result.final(child)["syscalls"]["stacks"]}
    assert "exit_group" in names
    assert not names & {"clone", "wait4"}


@pytest.mark.needs("m32")
def test_32_bit_callers_have_none(start, run_kwatch):
    target = start("syscalls32")
    kwatch = run_kwatch("--pid", target.pid, *CALLS_ALONE)
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    stacks = final["syscalls"]["stacks"]
    assert {(stack["ending"], len(stack["frames"])) for stack in stacks} == {("unsupported", 0)}
    assert {s["name"]: s["calls"] for s in stacks}["getppid"] == answers["getppid"]


def test_not_asked_for(start, run_kwatch):
    target = start("callsites")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    kwatch.attached()
    target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["syscalls"]["stacks"] is None
    assert final["syscalls"]["endings"] == {}


@pytest.mark.parametrize("command", [["cat", "/etc/passwd"], ["python3", "-S", "-c", "print(1)"]])
def test_real_programs(run_kwatch, command):
    """Every stack that is whole begins at the program's start."""
    final = run_kwatch(*CALLS_ALONE, "--", *command).finish().final()
    assert_adds_up(final)
    whole = [s for s in final["syscalls"]["stacks"] if s["ending"] in WHOLE]
    assert len(whole) > 5
    for stack in whole:
        assert stack["frames"][-1]["symbol"] in ("_start", "__clone3", ""), stack


def test_system_wide(start, run_kwatch):
    kwatch = run_kwatch(*STACKS, "-e", "trace=getppid,dup")
    kwatch.attached()
    target = start("callsites")
    target.go()
    target.end()
    final = kwatch.document(lambda d: d["kind"] == "final" and d["process"]["pid"] == target.pid)
    kwatch.stop()
    assert final["heap"] is None
    assert counted(final) == EXPECTED
