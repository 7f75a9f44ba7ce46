# SPDX-License-Identifier: Apache-2.0
"""A launched command waits once, after its exec, and is never left waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from harness.waiting import wait_until

from kwatch.errors import KwatchError
from kwatch.targets.exec_stop import ExecStop
from kwatch.targets.launch import Launched


def test_it_waits_before_its_first_instruction():
    seen = []
    command = Launched(("true",))

    def look():
        seen.append(os.readlink(f"/proc/{command.pid}/exe"))
        seen.append("libc" in Path(f"/proc/{command.pid}/maps").read_text())

    command.release(look)
    assert command.wait() == 0
    assert os.path.basename(seen[0]) in ("true", "coreutils")
    assert not seen[1]  # the dynamic loader has not run
    with pytest.raises(KwatchError, match="first instruction"):
        ExecStop(command.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_before_the_exec(number):
    command = Launched(("true",))
    os.kill(command.pid, signal.SIGSTOP)  # so that it is there when the exec is awaited
    os.kill(command.pid, number)
    os.kill(command.pid, signal.SIGCONT)
    calls = []
    with suppress(KwatchError):  # it was gone before it was released
        command.release(lambda: calls.append(1))
    assert command.wait() == 128 + number
    assert calls == []


def test_an_exec_that_fails(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF neither code nor script")
    path.chmod(0o755)
    calls = []
    with pytest.raises(KwatchError, match="Exec format error"):
        Launched((str(path),)).release(lambda: calls.append(1))
    assert calls == []


KILLED = """
import os, signal, sys
from kwatch.targets.launch import Launched
command = Launched(("sh", "-c", "echo $$ > $0; mv $0 $1", *sys.argv[1:]))
command.release(lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_it_goes_on_if_kwatch_is_killed_meanwhile(tmp_path):
    done = tmp_path / "done"
    command = [sys.executable, "-c", KILLED, tmp_path / "new", done]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    wait_until(done.exists)
    pid = int(done.read_text())
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


@pytest.mark.needs("strace")
def test_under_a_debugger_it_does_not_wait(tmp_path):
    """Only one program can trace a process."""
    script = "from kwatch.targets.launch import Launched; c = Launched(('true',));"
    script += "c.release(lambda: print('called')); print('status', c.wait())"
    command = ["strace", "-f", "-o", tmp_path / "log", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "status 0\n"
