# SPDX-License-Identifier: Apache-2.0
"""Copies of files, made by a helper that is given up when it takes too long."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kwatch.procfs.served_files import NO_ANSWER, ServedFiles


@pytest.fixture
def served():
    opened = ServedFiles(timeout_s=5.0)
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
    pids = []

    def stop(pid):
        pids.append(pid)
        if len(pids) == 1:
            os.kill(pid, signal.SIGSTOP)

    file, ended = tmp_path / "file", []
    file.write_bytes(b"x")
    served = ServedFiles(timeout_s=2.0)
    served.exclude(stop, ended.append)
    device, inode, name = key_of(file)
    assert served.copy((device, inode, name), [name]).reason == NO_ANSWER
    began = time.monotonic()
    assert served.copy((device, inode, name + "2"), [name]).reason == NO_ANSWER
    assert time.monotonic() - began < 1.0
    assert Path(served.copy((device + 1, inode, name), [name]).path).read_bytes() == b"x"
    served.close()
    assert ended == pids
    assert len(pids) == 2
