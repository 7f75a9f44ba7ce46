# SPDX-License-Identifier: Apache-2.0
"""A burst of forks overflows the process connector: what was lost there is looked for in /proc."""

from __future__ import annotations

import os
import signal

import pytest

from kwatch.targets.connector import Connector


@pytest.fixture
def connector():
    opened = []

    def open_connector(**how):
        opened.append(Connector(**how))
        return opened[-1]

    yield open_connector
    for one in opened:
        one.close()


def test_a_rename_is_seen(start, connector):
    target = start("storm", 2)
    listener = connector()
    eye = target.go()["eye"]
    assert eye in listener.renamed()


def test_an_overflow_is_told_once_and_what_follows_is_seen(start, connector):
    listener = connector(receive_buffer=4096)
    start("storm", 997).go()
    assert listener.renamed() is None
    later = start("storm", 0)
    assert listener.renamed() is not None
    assert later.go()["eye"] in listener.renamed()


def test_a_process_that_is_renamed_in_a_storm_is_found(start, run_kwatch):
    """kwatch is stopped meanwhile, so that it cannot keep up."""
    target = start("storm", 9001)
    kwatch = run_kwatch("--comm", "eye", "--json", "--no-heap")
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    os.waitid(os.P_PID, kwatch.pid, os.WSTOPPED)
    eye = target.go()["eye"]
    kwatch.send(signal.SIGCONT)
    kwatch.said(lambda line: line == f"attached to eye[{eye}]")
    target.end()
    result = kwatch.stop()
    assert result.status == 0
    assert result.final(eye)["process"]["comm"] == "eye"
