# SPDX-License-Identifier: Apache-2.0
"""A terminal with a session of its own, in whose foreground a command runs."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from harness.lines import DEADLINE

#: The session's leader, as a shell: it runs the command in a group of its own, says when that stops
#: and lets it continue at a line of input. At a hangup it exits, or sends it on (`resend`).
_LEADER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
at_hangup, command = sys.argv[1], sys.argv[2:]
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(command[0], command)
def hangup(*_):
    if at_hangup == "resend":
        os.killpg(pid, signal.SIGHUP)
    else:
        os._exit(0)
signal.signal(signal.SIGHUP, hangup)
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    os.tcsetpgrp(0, os.getpid())
    os.write(1, b"stopped\\n")
    sys.stdin.readline()
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""


class Terminal:
    """Runs a command in the foreground of a terminal."""

    def __init__(self, *command: str | Path, at_hangup: str = "exit") -> None:
        self._ours, theirs = pty.openpty()
        how = [sys.executable, "-S", "-c", _LEADER, at_hangup]
        self._leader = subprocess.Popen(
            [*how, *map(str, command)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._output = b""

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def said(self, word: str) -> None:
        """Waits until the output contains `word`; what came before it is forgotten."""
        deadline = time.monotonic() + DEADLINE
        while word.encode() not in self._output:
            left = deadline - time.monotonic()
            assert left > 0, self._output
            if select.select([self._ours], [], [], left)[0]:
                self._output += os.read(self._ours, 4096)
        self._output = self._output.partition(word.encode())[2]

    def hang_up(self) -> None:
        """Closes the terminal, as when a connection breaks."""
        os.close(self._ours)
        self._ours = -1

    def wait(self) -> int:
        return self._leader.wait(DEADLINE)

    def close(self) -> None:
        if self._ours >= 0:
            self.hang_up()
        for pid in _session(self._leader.pid):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        self._leader.kill()
        self._leader.wait(DEADLINE)


def _session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found
