# SPDX-License-Identifier: Apache-2.0
"""Processes that the user names, and that end while they are looked at."""

from __future__ import annotations

import os
import subprocess

import pytest

from kwatch.errors import KwatchError
from kwatch.targets import processes


@pytest.fixture
def gone(monkeypatch):
    """The pid of a process that ends right after the first look at it."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        found = processes.facts(child.pid)
        child.kill()
    monkeypatch.setattr(processes, "facts", lambda pid: found)
    return child.pid


@pytest.mark.parametrize("steps", [0, 1])
def test_one_that_ends_between_two_looks_is_none(monkeypatch, gone, steps):
    looked = os.stat("/proc/self")
    if steps:
        monkeypatch.setattr(os, "stat", lambda path: looked)
    with pytest.raises(KwatchError, match=f"there is no process {gone}"):
        processes.require(gone)


def test_one_that_is_there():
    assert processes.require(os.getppid()).pid == os.getppid()
