# SPDX-License-Identifier: Apache-2.0
"""Copies of files, made by a helper that is given up when it takes too long."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from threading import Timer

import pytest

from kwatch.procfs.served_files import NO_ANSWER, ServedFiles
from kwatch.system.helper_wait import has_answer


@pytest.fixture
def served():
    opened = ServedFiles(idle_s=5.0)
    yield opened
    opened.close()


def key_of(path):
    status = path.stat()
    return status.st_dev, status.st_ino, str(path)


def test_a_copy_has_the_contents_and_the_time(served, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"contents" * 1_000_003)
    os.utime(file, ns=(1, 123_456_789))
    found = served.copy(key_of(file), [str(tmp_path / "gone"), str(file)])
    assert found.reason == ""
    assert Path(found.path).read_bytes() == file.read_bytes()
    assert os.stat(found.path).st_mtime_ns == 123_456_789


def test_another_file_of_that_name_is_no_copy(served, tmp_path):
    file, other = tmp_path / "file", tmp_path / "other"
    file.touch()
    other.touch()
    found = served.copy(key_of(file), [str(other), str(tmp_path / "gone")])
    assert (found.path, found.reason) == ("", "No such file or directory")


def test_after_a_request_without_an_answer_the_device_is_not_asked_again(tmp_path):
    """The helper is stopped, so it does not answer; it is killed, and another device is served."""
    file, pids, ended = tmp_path / "file", [], []
    file.write_bytes(b"x")
    served = ServedFiles(idle_s=0.5)
    served.exclude(pids.append, ended.append)
    device, inode, name = key_of(file)
    assert served.copy((device, inode, name), [name]).reason == ""
    os.kill(pids[0], signal.SIGSTOP)
    assert served.copy((device, inode, name + "2"), [name]).reason == NO_ANSWER
    began = time.monotonic()
    assert served.copy((device, inode, name + "3"), [name]).reason == NO_ANSWER
    assert time.monotonic() - began < 0.5
    assert Path(served.copy((device + 1, inode, name), [name]).path).read_bytes() == b"x"
    served.close()
    assert ended == pids
    assert len(pids) == 2


def test_a_helper_that_starts_slowly_is_waited_for(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    served = ServedFiles(idle_s=0.2)

    def delay(pid):
        os.kill(pid, signal.SIGSTOP)
        Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()

    served.exclude(delay, lambda pid: None)
    assert Path(served.copy(key_of(file), [str(file)]).path).read_bytes() == b"x"
    served.close()


@pytest.mark.parametrize(("work", "is_answered"), [("computes", True), ("sleeps", False)])
def test_only_a_helper_that_sleeps_is_given_up(work, is_answered):
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            if work == "sleeps":
                signal.pause()
        theirs.send(b"x")
        os._exit(0)
    try:
        assert has_answer(pid, ours, idle_s=0.4) == is_answered
        if is_answered:
            assert ours.recv(1) == b"x"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
        theirs.close()
