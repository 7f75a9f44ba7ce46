# SPDX-License-Identifier: Apache-2.0
"""Stacks of system calls: the number of calls from each place is exact."""

from __future__ import annotations

import pytest
from harness.callsites import EVERY_CALL, EXPECTED, WHOLE, assert_adds_up, counted, own_frames

STACKS = ("--json", *EVERY_CALL)
CALLS_ALONE = (*STACKS, "--no-heap")


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
    """Calls before and after the exec count, each with the stacks of its own image."""
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
    """The outermost frame of every complete stack is the program's entry point."""
    final = run_kwatch(*CALLS_ALONE, "--", *command).finish().final()
    assert_adds_up(final)
    whole = [s for s in final["syscalls"]["stacks"] if s["ending"] in WHOLE]
    assert len(whole) > 5
    for stack in whole:
        assert stack["frames"][-1]["symbol"] in ("_start", "__clone3", ""), stack


def is_final_of(document, pid):
    return document["kind"] == "final" and document["process"]["pid"] == pid


def test_system_wide(start, run_kwatch):
    """Of a process that ends while the tables of its files are built, stacks may be cut."""
    kwatch = run_kwatch(*STACKS, "-e", "trace=getppid,dup")
    kwatch.attached()
    for _ in range(2):
        target = start("callsites")
        target.go()
        target.end()
        final = kwatch.document(lambda d, pid=target.pid: is_final_of(d, pid))
    kwatch.stop()
    assert final["heap"] is None
    assert counted(final) == EXPECTED


def test_vfork(program, run_kwatch):
    """It holds its return address in a register while it calls the kernel."""
    options = ("--json", "--no-heap", "--stacks", "-e", "trace=vfork", "--full-stacks")
    result = run_kwatch(*options, "--", program("sharers"), "now").finish()
    found = {
        tuple(frame["symbol"] for frame in stack["frames"][1:3]): stack
        for stack in result.final()["syscalls"]["stacks"]
    }
    assert set(found) == {("vfork_and_exit", "main"), ("vfork_and_exec", "main")}
    assert {(stack["calls"], stack["ending"]) for stack in found.values()} == {(1, "complete")}
