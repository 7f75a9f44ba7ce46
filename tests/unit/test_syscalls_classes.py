# SPDX-License-Identifier: Apache-2.0
"""The classes against strace: of one program's calls both pick the same."""

import functools
import re
import shutil
import subprocess

import pytest

from kwatch.syscalls.classes import CLASSES

PROGRAM = ["sh", "-c", "id; df /; ls -l /; date; kill -0 $$"]


@functools.cache
def traced(selection: str) -> frozenset[str]:
    """The calls of PROGRAM that strace prints for one selection."""
    if shutil.which("strace") is None:
        pytest.skip("strace is absent")
    command = ["strace", "-f", "-e", f"trace={selection}", "-e", "signal=none", *PROGRAM]
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ran.returncode and "ptrace" in ran.stderr.lower():
        pytest.skip(f"strace cannot trace here: {ran.stderr.strip()}")
    return frozenset(re.findall(r"^(?:\[pid +\d+\] )?(\w+)\(", ran.stderr, re.MULTILINE))


@pytest.mark.parametrize("name", CLASSES)
def test_strace_picks_the_same_calls(name: str) -> None:
    assert len(traced("all")) > 30
    assert traced(f"%{name}") == traced("all") & CLASSES[name]
