# SPDX-License-Identifier: Apache-2.0
"""Recordings of any length are shown bit by bit, and a signal ends that."""

from __future__ import annotations

import pytest
from harness.recordings import call, ended, opened, record

from kwatch.cli import main
from kwatch.commands.show import command


class Stop(BaseException):
    pass


class Signalled:
    """A signal arrives after some looks."""

    def __init__(self, looks):
        self.looks = looks

    def check(self):
        self.looks -= 1
        if not self.looks:
            raise Stop


def test_a_signal_ends_a_long_recording():
    """Also where no call is shown: a look comes before each of those that are read together."""
    calls = command._until_signal(iter(range(10**9)), Signalled(3))
    assert [next(calls) for _ in range(2 * command._AT_ONCE)][-1] == 2 * command._AT_ONCE - 1
    with pytest.raises(Stop):
        next(calls)


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_all_lines_are_written(tmp_path, capsys, monkeypatch, at_once):
    monkeypatch.setattr(command, "_AT_ONCE", at_once)
    batch = [opened(b"/a"), call("close", 3), call("getuid"), call("close", 99, result=-9), ended()]
    run = record(tmp_path / "run", batch)
    assert main(["show", run]) == 0
    assert [line.partition("(")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("openat", "close", "getuid", "close"),
        "+++ exited with 0 +++",
    ]
    assert main(["show", run, "-Z", "-e", "trace=close"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "close(99)                               = -1 EBADF (Bad file descriptor)",
        "+++ exited with 0 +++",
    ]
