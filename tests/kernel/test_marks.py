# SPDX-License-Identifier: Apache-2.0
"""A mark reports what the program itself counts: allocated since the mark before, not freed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from harness.lines import DEADLINE
from harness.terminal import Terminal
from harness.waiting import wait_until

from kwatch.units import format_size

KWATCH = (sys.executable, "-m", "kwatch")
_SIGNALS = re.compile(r"^Sig(?:Ign|Blk):.*$", re.MULTILINE)


def set_mark(pid, status=0):
    """Runs `kwatch mark` and returns its output. `status`: None for any."""
    done = subprocess.run(
        [*KWATCH, "mark", "--pid", str(pid)], capture_output=True, text=True, timeout=DEADLINE
    )
    assert status in (None, done.returncode), done
    return done.stdout + done.stderr


def report_of(kwatch, number, pid):
    return kwatch.document(
        lambda one: (one["kind"], one["mark"], one["process"]["pid"]) == ("mark", number, pid)
    )


def assert_equal(report, said, line):
    since, stacks = report["since_mark"], report["heap"]["stacks"]
    assert (since["blocks"], since["bytes"]) == (said["kept"] + said["lost"], said["bytes"])
    assert (since["reach"]["definite"], since["reach"]["reachable"]) == (said["lost"], said["kept"])
    assert sum(stack["blocks"] for stack in stacks) == since["blocks"]
    counts = {stack["frames"][0]["symbol"]: stack["blocks"] for stack in stacks}
    assert counts == {"keep": said["kept"], "lose": said["lost"]}
    assert line.endswith(
        f": {since['blocks']} blocks ({format_size(said['bytes'])}) allocated since mark "
        f"{report['mark'] - 1} are outstanding\n"
    )


def test_the_report_is_what_the_program_prints(start, run_kwatch):
    """The rounds before the first mark are in no report; then a fork, and then an exec."""
    target = start("marks")
    pid = target.pid
    kwatch = run_kwatch(
        *("--pid", pid, "--follow", "--mark", "--json", "--no-syscalls", "--interval", 60)
    )
    kwatch.attached()
    target.go()
    assert set_mark(pid).startswith(f"mark 1 set in kwatch[{kwatch.pid}]; ")
    said = target.go()
    line = set_mark(pid)
    assert line.startswith(f"mark 2 set in kwatch[{kwatch.pid}]: ")
    assert_equal(report_of(kwatch, 2, pid), said, line)

    said = target.go("forked")
    child = said["child"]
    wait_until(lambda: "mark 3 set" in set_mark(child, None))
    third = report_of(kwatch, 3, pid)
    assert third["since_mark"]["blocks"] == said["kept"] + said["lost"]
    said = target.go()
    kwatch.send(signal.SIGUSR1)
    since = report_of(kwatch, 4, child)["since_mark"]
    assert (since["blocks"], since["bytes"]) == (said["child_blocks"], said["child_bytes"])
    assert report_of(kwatch, 4, pid)["since_mark"]["blocks"] == 0

    target.go("ready")  # the program runs anew
    said = target.go()
    line = set_mark(child)
    os.kill(child, signal.SIGKILL)
    assert_equal(report_of(kwatch, 5, pid), said, line)
    kwatch.stop()


def test_each_kwatch_that_traces_the_process_sets_a_mark(start, run_kwatch):
    target, other = start("marks"), start("marks")
    options = ("--pid", other.pid, "--mark", "--no-syscalls", "-o", "/dev/null")
    sessions = [run_kwatch(*options) for _ in range(2)]
    for kwatch in sessions:
        kwatch.attached()
    assert set_mark(target.pid, status=1) == (
        f"kwatch: no kwatch that was started with --mark traces process {target.pid}\n"
        f"  start one: kwatch --mark --pid {target.pid}\n"
    )
    found = re.findall(r"^mark 1 set in kwatch\[(\d+)\]", set_mark(other.pid), re.MULTILINE)
    assert {int(pid) for pid in found} == {kwatch.pid for kwatch in sessions}
    other.end()
    for kwatch in sessions:
        kwatch.finish()


def ignore_and_block(number):
    signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


@pytest.mark.parametrize("ignored", [signal.SIGUSR1, signal.SIGUSR2], ids=lambda one: one.name)
def test_a_command_has_the_action_that_kwatch_was_given(ignored):
    found = []
    for tracer in ((), (*KWATCH, "--mark", "--no-syscalls", "-o", "/dev/null", "--")):
        done = subprocess.run(
            [*tracer, "cat", "/proc/self/status"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            preexec_fn=lambda: ignore_and_block(ignored),
        )
        assert done.returncode == 0, done.stderr
        found.append(_SIGNALS.findall(done.stdout))
    assert found[0] == found[1]


@pytest.fixture
def terminal():
    opened = []

    def open_terminal(*command):
        opened.append(Terminal(*command))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_the_terminal_sets_marks_and_keeps_its_mode(start, terminal, tmp_path):
    target = start("marks")
    command = f"{' '.join(KWATCH)} --pid {target.pid} --mark --no-syscalls -o {tmp_path / 'out'}"
    modes = [tmp_path / "before", tmp_path / "after"]
    before, after = (f"stty -g >{mode}" for mode in modes)
    shell = terminal("sh", "-c", f"trap : INT; {before}; {command}; {after}; echo ended")
    shell.said("type m and Enter to set a mark")
    shell.press(b"other\n\nm\n")
    shell.said("mark 1 set")
    target.go()
    shell.press(b"m\n")
    shell.said("mark 2 set")
    shell.press(b"\x03")
    shell.said("ended")
    assert "mark 2: 9 blocks" in (tmp_path / "out").read_text()
    assert modes[0].read_text() == modes[1].read_text() != ""


def test_in_the_background_the_terminal_is_another_jobs(start, terminal, tmp_path):
    target, taken = start("marks"), tmp_path / "taken"
    command = f"{' '.join(KWATCH)} --pid {target.pid} --mark --no-syscalls -o {tmp_path / 'out'}"
    shell = terminal("bash", "-c", f"set -m; {command} & cat >{taken}")
    shell.said("attached")
    for line in (b"m\n", b"more\n"):
        shell.press(line)
    wait_until(lambda: taken.read_text() == "m\nmore\n")
    assert set_mark(target.pid).startswith("mark 1 set")
