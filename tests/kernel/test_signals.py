# SPDX-License-Identifier: Apache-2.0
"""A launched command gets the signals and the actions that it would get without kwatch.

The second source is strace, or the command alone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from harness.lines import DEADLINE
from harness.terminal import Terminal
from harness.waiting import has_taken, is_idle, wait_until

KWATCH = (sys.executable, "-m", "kwatch", "--no-heap", "-o", "/dev/null", "--")
STRACE = ("strace", "-f", "-o", "/dev/null")
ALONE = ()
_IGNORED = re.compile(r"^Sig(?:Ign|Blk):.*$", re.MULTILINE)


def ignoring(names):
    """Runs before an exec. Popen itself restores SIGPIPE and SIGXFSZ."""
    for name in names:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "names", [[], ["CHLD"], ["INT", "TERM"], ["HUP", "QUIT", "CHLD"]], ids=" ".join
)
def test_a_command_gets_the_actions_that_kwatch_was_given(names):
    found = {}
    for tracer in (STRACE, KWATCH):
        done = subprocess.run(
            [*tracer, "cat", "/proc/self/status"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            preexec_fn=lambda: ignoring(names),
        )
        assert done.returncode == 0, done.stderr
        found[tracer] = _IGNORED.findall(done.stdout)
    assert found[KWATCH] == found[STRACE]


def test_doctor_works_under_a_parent_that_ignores_its_children():
    doctor = [sys.executable, "-m", "kwatch", "doctor"]
    done = subprocess.run(
        doctor, capture_output=True, text=True, preexec_fn=lambda: ignoring(["CHLD"])
    )
    assert (done.returncode, done.stderr) == (0, "")


class Log:
    """The file of tests/programs/signals.c."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        return self.path.read_text().split() if self.path.exists() else []

    def wait(self, count):
        deadline = time.monotonic() + DEADLINE
        while len(self.lines()) < count:
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)
        return self.lines()

    @property
    def pid(self):
        return int(self.wait(1)[0])


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "signals")


@pytest.fixture
def terminal():
    opened = []

    def open_terminal(*command, **how):
        opened.append(Terminal(*command, **how))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def end(log, parent, number):
    """Ends the program after kwatch has seen a signal; returns the signals that it got."""
    pid = log.pid
    log.wait(2)
    if parent is not None:
        wait_until(lambda: has_taken(parent, number))
        # kwatch forwards in the same step in which it reads the signal.
        wait_until(lambda: is_idle(parent))
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: not psutil.pid_exists(pid))
    return log.lines()[1:]


@pytest.mark.parametrize("leaves", [False, True], ids=["in the group", "left it"])
def test_one_ctrl_c_is_one_signal(program, terminal, log, leaves):
    one = terminal(*KWATCH, program("signals"), log.path, *["leave"] * leaves)
    pid = log.pid
    one.press(b"\x03")
    one.said("waiting for")
    os.kill(pid, signal.SIGUSR1)
    assert one.wait() == 7
    assert log.lines()[1:] == ["INT"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("leaves", [False, True], ids=["in the group", "left it"])
def test_one_kill_is_one_signal(program, terminal, log, number, leaves):
    """kill(2) of kwatch only, also in the foreground of a terminal."""
    terminal(*KWATCH, program("signals"), log.path, *["leave"] * leaves)
    kwatch = psutil.Process(log.pid).ppid()
    os.kill(kwatch, number)
    assert end(log, kwatch, number) == [signal.Signals(number).name.removeprefix("SIG")]


@pytest.mark.parametrize("at_hangup", ["exit", "resend"])
def test_one_hangup_is_one_signal(program, terminal, tmp_path, at_hangup):
    found = []
    for name, tracer in (("alone", ALONE), ("kwatch", KWATCH)):
        log = Log(tmp_path / name)
        one = terminal(*tracer, program("signals"), log.path, at_hangup=at_hangup)
        parent = psutil.Process(log.pid).ppid()
        one.hang_up()
        found.append(end(log, parent if tracer else None, signal.SIGHUP))
    assert found == [["HUP"], ["HUP"]]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("tracer", [STRACE, KWATCH], ids=["strace", "kwatch"])
def test_ctrl_z_stops_both_and_fg_continues_them(program, terminal, log, tracer):
    one = terminal(*tracer, program("signals"), log.path)
    command = psutil.Process(log.pid)
    both = [command, command.parent()]
    one.press(b"\x1a")
    one.said("stopped")
    stopped = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    wait_until(lambda: all(each.status() in stopped for each in both))
    one.press(b"\n")
    wait_until(lambda: not any(each.status() in stopped for each in both))
    os.kill(command.pid, signal.SIGUSR1)
    assert one.wait() == 7
    assert log.lines()[1:] == []


@pytest.mark.parametrize("reader", ["tee -i", "tee"])
def test_ctrl_c_in_a_pipeline(start, terminal, tmp_path, reader):
    """A reader that survives gets the final report; without one, kwatch says that it is lost."""
    target, report, status = start("leaky"), tmp_path / "report", tmp_path / "status"
    kwatch = f"{sys.executable} -m kwatch --pid {target.pid} --json"
    line = f"trap : INT; {kwatch} | {reader} {report}; echo ${{PIPESTATUS[*]}} > {status}"
    one = terminal("bash", "-c", line)
    one.said("attached")
    one.press(b"\x03")
    if reader == "tee":
        one.said("the final report is lost")
    one.wait()
    kept = [json.loads(line)["kind"] for line in report.read_text().splitlines()]
    survives = reader != "tee"
    assert kept == ["final"] * survives
    assert status.read_text().split()[0] == "01"[not survives]
