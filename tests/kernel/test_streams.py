# SPDX-License-Identifier: Apache-2.0
"""With full, closed or unread streams kwatch still waits for the command and keeps its status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest
from harness.lines import DEADLINE

KWATCH = (sys.executable, "-m", "kwatch")
WAITS = ("--", "sh", "-c", "read _; exit 7")


@pytest.fixture
def launch():
    """launch(*arguments) starts a kwatch whose command waits for standard input."""
    started = []

    def start(*arguments, prefix=()):
        process = subprocess.Popen(
            [*prefix, *KWATCH, "--json", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        for child in psutil.Process(process.pid).children() if process.poll() is None else ():
            child.kill()
        process.kill()
        process.communicate(timeout=DEADLINE)


def held(kwatch):
    """Kernel objects that it holds: programs, maps, probes and rings live as long as these fds."""
    found = []
    for path in Path(f"/proc/{kwatch.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            name = os.readlink(path)
            found += [name] if "bpf" in name or "perf_event" in name else []
    return found


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_detached(kwatch):
    wait_until(lambda: not held(kwatch))
    assert kwatch.poll() is None


def attached(kwatch):
    line = kwatch.stderr.readline()
    assert line.startswith("attached"), line


def head(kwatch):
    """Reads the first line and closes the pipe, as `head -1` does."""
    attached(kwatch)
    assert kwatch.stdout.readline()
    assert held(kwatch)
    kwatch.stdout.close()
    kwatch.stdout = None


def end(kwatch):
    """Lets the command end; returns kwatch's status and its messages."""
    said = kwatch.communicate("\n", timeout=DEADLINE)[1]
    return kwatch.returncode, said


def test_status_of_the_command(launch):
    kwatch = launch("--interval", "0.1", *WAITS)
    head(kwatch)
    wait_until_detached(kwatch)
    assert end(kwatch) == (7, "")


def test_a_signal_reaches_the_command(launch):
    kwatch = launch("--interval", "0.1", "--", "sleep", "1000")
    head(kwatch)
    wait_until_detached(kwatch)
    kwatch.send_signal(signal.SIGTERM)
    assert kwatch.wait(DEADLINE) == 128 + signal.SIGTERM


STUBBORN = """
import signal, sys
ready, came = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: open(came, "w"))
open(ready, "w")
sys.stdin.read()
"""


def test_a_second_signal_ends_kwatch_alone(launch, tmp_path):
    ready, came = tmp_path / "ready", tmp_path / "came"
    kwatch = launch("--interval", "0.1", "--", sys.executable, "-c", STUBBORN, ready, came)
    wait_until(ready.exists)
    head(kwatch)
    wait_until_detached(kwatch)
    kwatch.send_signal(signal.SIGTERM)
    wait_until(came.exists)
    kwatch.send_signal(signal.SIGTERM)
    assert kwatch.wait(DEADLINE) == 128 + signal.SIGTERM
    assert "is still running" in end(kwatch)[1]


def test_duration_ends_the_wait(launch):
    kwatch = launch("--interval", "0.1", "--duration", "1", *WAITS)
    head(kwatch)
    assert kwatch.wait(DEADLINE) == 0
    assert "is still running" in end(kwatch)[1]


def test_full_disk_is_told_while_the_command_runs(launch):
    kwatch = launch("--interval", "0.1", "--output", "/dev/full", *WAITS)
    attached(kwatch)
    assert "/dev/full" in kwatch.stderr.readline()
    wait_until_detached(kwatch)
    assert end(kwatch)[0] == 1


LOSES = """
import ctypes, sys
for _ in range(29):
    ctypes.CDLL(None).malloc(1013)
sys.stdin.readline()
sys.exit(7)
"""


@pytest.mark.parametrize(("smallest", "status"), [("0", 3), ("1G", 7)])
def test_a_verdict_is_waited_for_without_a_reader(launch, smallest, status):
    """Memory that the program loses is a leak, unless --min-size excludes it."""
    options = ("--fail-on-leak", "--min-size", smallest, "--interval", "0.1")
    kwatch = launch(*options, "--", sys.executable, "-c", LOSES)
    head(kwatch)
    assert end(kwatch) == (status, "")


def test_the_reader_of_the_announcements_has_gone(launch):
    """A script reads the `attached` line and closes the pipe; kwatch then announces children."""
    kwatch = launch("--follow", "--", "sh", "-c", "read _; sleep 0.2; sleep 0.2; exit 7")
    attached(kwatch)
    kwatch.stderr.close()
    kwatch.stderr = None
    stdout, _ = kwatch.communicate("\n", timeout=DEADLINE)
    assert kwatch.returncode == 7
    finals = [json.loads(line) for line in stdout.splitlines()]
    assert [final["process"]["comm"] for final in finals] == ["sleep", "sleep", "sh"]


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_nothing_can_be_said(launch, where):
    kwatch = launch(*WAITS, prefix=("sh", "-c", f'exec "$@" {where}', "sh"))
    stdout, stderr = kwatch.communicate("\n", timeout=DEADLINE)
    assert (kwatch.returncode, stderr) == (7, "")
    assert json.loads(stdout)["kind"] == "final"


def test_standard_input_is_closed(launch):
    closed = ("sh", "-c", 'exec "$@" <&-', "sh")
    kwatch = launch("--", "sleep", "1000", prefix=closed)
    attached(kwatch)
    kwatch.send_signal(signal.SIGINT)
    stdout, stderr = kwatch.communicate(timeout=DEADLINE)
    assert kwatch.returncode == 128 + signal.SIGINT
    assert all("0 calls so far" in line for line in stderr.splitlines())
    assert json.loads(stdout)["kind"] == "final"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_does_not_end_at_a_signal_is_waited_for(launch, number):
    kwatch = launch("--", "sh", "-c", "trap '' INT TERM; echo ready; read _; exit 7")
    attached(kwatch)
    assert kwatch.stdout.readline() == "ready\n"
    kwatch.send_signal(number)
    waiting = kwatch.stderr.readline()
    assert waiting == "kwatch: waiting for sh to end; ^C again ends kwatch now\n"
    kwatch.send_signal(number)
    assert kwatch.wait(DEADLINE) == 128 + number
    _, stderr = kwatch.communicate(timeout=DEADLINE)  # lets the command end, too
    assert stderr.startswith("kwatch: sh (pid ")
    assert stderr.endswith(") is still running\n")


COUNTS = """
import signal, sys, time
came = []
signal.signal(signal.SIGINT, lambda *_: came.append(1))
open(sys.argv[1], "w")
while not came:
    time.sleep(0.01)
time.sleep(0.5)  # for another
sys.exit(10 + len(came))
"""


@pytest.mark.parametrize("where", ["", "</dev/null", "<&-"])
def test_ctrl_c_reaches_the_command_once(tmp_path, where):
    """The terminal sends SIGINT to both, whatever standard input is."""
    ready, (ours, theirs) = tmp_path / "ready", pty.openpty()
    command = (*KWATCH, "--json", "--", sys.executable, "-c", COUNTS, ready)
    kwatch = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {where}', "sh", *command],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    )
    wait_until(ready.exists)
    os.write(ours, b"\x03")
    stdout, _ = kwatch.communicate(timeout=DEADLINE)
    assert kwatch.returncode == 11
    assert json.loads(stdout)["kind"] == "final"
    for descriptor in (ours, theirs):
        os.close(descriptor)
