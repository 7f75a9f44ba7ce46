# SPDX-License-Identifier: Apache-2.0
"""Forks, execs and exits: each process has one report, with its own status and verdict."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest


def test_one_report_for_each_followed_process(run_kwatch):
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do /bin/true; done"
    result = run_kwatch("--json", "--no-heap", "--follow", "--", "sh", "-c", script).finish()
    reports = [(d["process"]["pid"], d["process"]["comm"]) for d in result.documents]
    assert len(reports) == 20
    assert len({pid for pid, _ in reports}) == 20
    assert sorted(comm for _, comm in reports) == ["sh"] + ["true"] * 19
    assert all(d["syscalls"]["calls"] > 10 for d in result.documents)


def test_a_command_that_ends_long_before_its_children_are_reported(program, run_kwatch):
    children, brood = 3000, program("brood")
    options = ("--json", "--follow", "--fail-on-leak", "--", brood, children)
    result = run_kwatch(*options).finish()
    assert result.status == 3
    finals = [d for d in result.documents if d["kind"] == "final"]
    assert len({d["process"]["pid"] for d in finals}) == len(finals) == children + 1
    (parent,) = [d for d in finals if d["heap"]["live_blocks"]]
    calls = {row["name"]: row["calls"] for row in parent["syscalls"]["by_name"]}
    assert (calls["clone"], calls["exit_group"]) == (children, 1)
    assert parent["heap"]["live_blocks"] == result.answers["live_blocks"]
    assert (parent["verdict"], parent["lost"]["events"]) == ("leak", 0)


def test_an_empty_set_selects_nothing(run_kwatch):
    result = run_kwatch("--json", "-e", "trace=!all", "--", "true").finish()
    assert result.final()["syscalls"]["calls"] == 0


def test_a_killed_process_is_said_to_be(run_kwatch):
    result = run_kwatch("--json", "--", "sh", "-c", "kill -9 $$").finish()
    assert result.status == 128 + 9
    process = result.final()["process"]
    assert (process["exited"], process["killed_by"]) == (True, "SIGKILL")


def test_status_of_a_process_that_takes_long_to_tear_down(run_kwatch):
    code = "import sys; block = bytearray(700 << 20); sys.exit(7)"
    result = run_kwatch("--json", "--no-heap", "--", sys.executable, "-c", code).finish()
    assert result.status == 7


@pytest.mark.parametrize("seconds", ["0.2", "0.5", "0.8"])
def test_a_process_that_ends_while_kwatch_starts(run_kwatch, seconds):
    """kwatch prints a complete report, or one error and no report."""
    with subprocess.Popen(["sleep", seconds]) as child:
        result = run_kwatch("--json", "--no-heap", "--pid", child.pid).finish()
    if result.status == 0:
        assert result.final(child.pid)["process"]["exited"] is True
    else:
        assert (result.status, result.documents) == (1, [])
        assert any(f"process {child.pid}" in line and "ended" in line for line in result.stderr)


def test_children_that_run_already_are_named(start, run_kwatch):
    """Existing children are not followed, as with strace -f -p."""
    target = start("forks")
    child = target.go("forked")["child"]
    kwatch = run_kwatch("--pid", target.pid, "--follow", "--json", "--no-heap")
    kwatch.attached()
    line = kwatch.said(lambda line: "existing child" in line)
    assert line.endswith(f"1 existing child is not traced: add --pid {child} or --comm forks")
    result = kwatch.stop()
    assert [d["process"]["pid"] for d in result.documents] == [target.pid]
    both = run_kwatch("--pid", f"{target.pid},{child}", "--follow", "--json", "--no-heap")
    both.attached()
    assert len(both.stop().stderr) == 1


def test_a_name_that_nobody_has_yet(run_kwatch, tmp_path):
    program = tmp_path / "latecomer"
    program.symlink_to(shutil.which("true"))
    kwatch = run_kwatch("--comm", program.name, "--json")
    assert kwatch.attached() == "attached to no process yet: none is named latecomer"
    subprocess.run([program], check=True)
    kwatch.document(lambda d: d["process"]["comm"] == program.name)
    kwatch.stop()


def test_exec_by_a_thread_that_does_not_lead(start, run_kwatch):
    target = start("threadexec")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    first = kwatch.attached()
    target.go("execed")
    kwatch.said(lambda line: "functions of" in line and line != first)
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["heap"]["live_blocks"] == answers["live_blocks"]
    assert final["heap"]["live_bytes"] == answers["live_bytes"]


def test_an_exec_into_another_allocator_is_not_called_clean(program, run_kwatch):
    """The static program's allocator is probed a moment after the program has started."""
    static = program("leaky", "-static")
    result = run_kwatch("--json", "--no-syscalls", "--", "env", static, "now").finish()
    assert result.final()["verdict"] != "clean"


def test_an_exec_out_of_the_name_is_an_end(run_kwatch, tmp_path):
    """What the process does afterwards does not make it a target again."""
    shell = tmp_path / "leaver"
    shell.symlink_to(shutil.which("sh"))
    kwatch = run_kwatch("--comm", shell.name, "--json", "--no-heap", "-e", "trace=execve")
    kwatch.attached()
    pids = []
    for _ in range(31):
        with subprocess.Popen([shell, "-c", "exec ls /"], stdout=subprocess.DEVNULL) as process:
            pids.append(process.pid)
        kwatch.document(lambda d: d["process"]["pid"] == pids[-1])
    result = kwatch.stop()
    for pid in pids:
        final = result.final(pid)
        assert final["process"]["comm"] == shell.name
        assert final["process"]["exe"].endswith("sh")
        assert final["process"]["exited"]
        assert final["syscalls"]["calls"] - final["syscalls"]["errors"] == 1
    assert len(result.documents) == len(pids)


def test_a_process_that_only_ends_while_all_are_traced(run_kwatch):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as idle:
        kwatch = run_kwatch("--json", "-e", "trace=close,exit_group")
        kwatch.attached()
        idle.stdin.close()
        idle.wait()
        final = kwatch.document(lambda d: d["process"]["pid"] == idle.pid)
        kwatch.stop()
    assert final["kind"] == "final"
    assert final["process"]["comm"] == "cat"
    assert final["process"]["exited"]
    calls = {row["name"]: row["calls"] for row in final["syscalls"]["by_name"]}
    assert calls["exit_group"] == 1
    assert calls["close"] > 0


def test_a_lost_exit_is_noticed_between_snapshots(start, run_kwatch):
    """kwatch is stopped meanwhile, so the ring is full when the target exits."""
    target = start("remaps")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls", "-i", "3600")
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    os.waitid(os.P_PID, kwatch.pid, os.WSTOPPED)
    target.go()
    target.end()
    kwatch.send(signal.SIGCONT)
    final = kwatch.finish().final(target.pid)
    assert final["process"]["exited"]
    assert final["lost"]["by_cause"]["control_ring_full"] > 0


def test_a_process_whose_first_thread_has_ended(start, run_kwatch):
    target = start("headless")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-heap", "-e", "trace=getppid")
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["syscalls"]["calls"] == answers["getppid"]


@pytest.mark.parametrize("what", ["--heap", "--no-heap"])
def test_the_executable_of_children_that_soon_end(run_kwatch, what):
    """It is not the shell, although each child starts as a copy of the shell."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do /bin/true; done"
    result = run_kwatch("--json", what, "--follow", "--", "sh", "-c", script).finish()
    programs = [(d["process"]["comm"], d["process"]["exe"]) for d in result.documents]
    shell, true = (os.path.realpath(path) for path in (shutil.which("sh"), "/bin/true"))
    assert sorted(programs) == sorted([("sh", shell), *[("true", true)] * 13])


def test_the_executable_of_a_command_that_soon_ends(run_kwatch):
    """It is not kwatch, although the command was kwatch's child before its exec."""
    process = run_kwatch("--json", "--no-heap", "--", "true").finish().final()["process"]
    assert process["exe"] == os.path.realpath(shutil.which("true"))
