# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at any moment leaves no process, and so no probe, link, program or perf event.

KWATCH_KILLS=500 makes a long run of it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
from harness.breakpoints import wait_until_clean
from harness.lines import DEADLINE
from harness.session import Session

KILLS = int(os.environ.get("KWATCH_KILLS", "15"))
MARK = "KWATCH_TEST_MARK"


class Marked:
    """Processes that descend from a kwatch of this test, told by their environment."""

    def __init__(self, monkeypatch):
        self.mark = uuid.uuid4().hex
        monkeypatch.setenv(MARK, self.mark)

    def processes(self):
        found = []
        for process in psutil.process_iter():
            try:
                variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if f"{MARK}={self.mark}".encode() in variables:
                    found.append(process)
            except OSError:
                continue
        return found

    def wait_until_gone(self, *, but=""):
        """`but`: the program of a launched command, which may go on."""
        until = time.monotonic() + DEADLINE
        while left := [each for each in self.processes() if not _is(each, but)]:
            assert time.monotonic() < until, [each.as_dict(["cmdline", "status"]) for each in left]
            time.sleep(0.01)


def _is(process, name):
    try:
        return bool(name) and process.cmdline()[:1] == [name]
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def marked(monkeypatch):
    found = Marked(monkeypatch)
    yield found
    for process in found.processes():
        process.kill()


DIES_IN = """
import os, signal, sys
from {module} import {owner}
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{method} = die
from kwatch.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("module", "owner", "method"),
    [
        ("kwatch.session.target_map", "TargetMap", "add_own"),
        ("kwatch.programs.loader", "Loader", "fileno"),
        ("kwatch.targets.launch", "Launched", "release"),
    ],
    ids=["symbol reader forked", "compiling", "command forked"],
)
def test_killed_right_after_a_fork(marked, module, owner, method):
    """The child has not been told to go on, and it holds what kwatch had opened."""
    script = DIES_IN.format(module=module, owner=owner, method=method)
    kwatch = subprocess.Popen([sys.executable, "-c", script, "--", "sleep", "1000"])
    assert kwatch.wait(DEADLINE) == -signal.SIGKILL
    marked.wait_until_gone()


def helpers_of(pid):
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def restarting(kwatch, chance):
    """Kills helpers of a running kwatch, so that it starts them again."""
    kwatch.attached()
    for _ in range(chance.randrange(1, 4)):
        for helper in helpers_of(kwatch.pid):
            helper.kill()
        time.sleep(chance.uniform(0, 0.1))


def kill_one(choice, target, round_):
    """A kwatch of one of four kinds lives for a moment; returns the command that may be left."""
    commands = [
        ("--pid", target.pid, "--json", "--interval", "0.05"),
        ("--comm", "leaky", "--json", "--follow"),
        ("--json", "--", "sleep", "1000"),
        ("--pid", target.pid, "--json", "--interval", "0.05"),
    ]
    kind = round_ % len(commands)
    kwatch = Session(*commands[kind])
    try:
        if kind == 3:
            restarting(kwatch, choice)
        time.sleep(choice.uniform(0, 0.9))
    finally:
        kwatch.kill()
    return "sleep" if kind == 2 else ""


def test_killed_at_a_random_moment(start, marked, monkeypatch):
    monkeypatch.delenv(MARK)
    target = start("leaky")
    monkeypatch.setenv(MARK, marked.mark)
    choice = random.Random(KILLS)
    for round_ in range(KILLS):
        left = kill_one(choice, target, round_)
        marked.wait_until_gone(but=left)
        assert target.is_running
        for each in marked.processes():  # the launched command
            each.kill()
    wait_until_clean(target.pid)
    target.go()
    assert target.end() == 0
