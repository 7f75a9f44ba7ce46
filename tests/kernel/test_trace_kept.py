# SPDX-License-Identifier: Apache-2.0
"""What a call was given is kept until it returns, and shown however it ends."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from harness.waiting import wait_until

from kwatch.syscalls import names
from kwatch.wire.events import Abi

OPEN = names.number(Abi[os.uname().machine.upper()], "openat")


@pytest.fixture
def fifos(tmp_path):
    found = [tmp_path / "first", tmp_path / "second"]
    for name in found:
        os.mkfifo(name)
    return found


@pytest.fixture
def kwatch(start, run_kwatch, fifos):
    """It traces a target that waits in openat(), and has come back to that from a handler."""
    target = start("fifo", *fifos)
    session = run_kwatch("trace", "--pid", target.pid, "-e", "trace=openat,access,faccessat")
    session.attached()
    target.release()
    wait_for_open(target)
    os.kill(target.pid, signal.SIGUSR1)
    session.printed(lambda line: "/in/the/handler" in line)
    wait_for_open(target)
    session.target = target
    return session


def wait_for_open(target):
    call = Path(f"/proc/{target.pid}/syscall")
    wait_until(lambda: call.read_text().split()[0] == str(OPEN))


def opened(lines):
    return [line.partition("AT_FDCWD, ")[2] for line in lines if line.startswith("openat")]


def test_a_call_that_is_made_again(kwatch, fifos):
    kwatch.target.kill()
    assert opened(kwatch.finish().stdout) == [f'"{fifos[0]}", O_RDONLY <unfinished ...>) = ?']


def test_a_call_whose_thread_ends(kwatch, fifos):
    os.close(os.open(fifos[0], os.O_WRONLY))
    kwatch.printed(lambda line: str(fifos[0]) in line)
    wait_for_open(kwatch.target)
    kwatch.target.kill()
    first, second = opened(kwatch.finish().stdout)
    assert re.fullmatch(rf'"{fifos[0]}", O_RDONLY\) += \d+', first)
    assert second == f'"{fifos[1]}", O_RDONLY <unfinished ...>) = ?'


def test_a_call_in_progress_at_the_end(kwatch, fifos):
    os.close(os.open(fifos[0], os.O_WRONLY))
    kwatch.printed(lambda line: str(fifos[0]) in line)
    wait_for_open(kwatch.target)
    _, second = opened(kwatch.stop().stdout)
    assert second == f'"{fifos[1]}", O_RDONLY <detached ...>'
