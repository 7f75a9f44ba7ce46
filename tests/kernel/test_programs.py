# SPDX-License-Identifier: Apache-2.0
"""The programs with known answers reach their stages in order, and strace confirms their counts."""

from __future__ import annotations

import subprocess

import pytest
from harness.libraries import library

STAGES = [
    ("leaky", ["done"]),
    ("threads", ["done"]),
    ("reallocs", ["done"]),
    ("family", ["done"]),
    ("cxx", ["done"]),
    ("getppid", ["done"]),
    ("rate", ["done"]),
    ("forks", ["forked", "done"]),
    pytest.param("dlopens", ["loaded", "done"], marks=pytest.mark.needs("mimalloc")),
    ("execs", ["allocated", "execed", "done"]),
    pytest.param("syscalls32", ["done"], marks=pytest.mark.needs("m32")),
]


@pytest.mark.parametrize(("name", "stages"), STAGES)
def test_stages_come_in_order(start, name, stages):
    target = start(name, *[library("libmimalloc")] * (name == "dlopens"))
    said = [target.go(stage) for stage in stages]
    assert all(said[-1].values())
    assert target.end() == 0


@pytest.mark.parametrize(
    ("name", "arguments", "calls"),
    [
        ("getppid", ["3", "1009"], ["getppid"]),
        ("rate", ["10007", "1", "1"], ["getppid", "clock_nanosleep"]),
        pytest.param("syscalls32", [], ["getppid", "open"], marks=pytest.mark.needs("m32")),
    ],
)
@pytest.mark.needs("strace")
def test_strace_counts_the_same_calls(program, tmp_path, name, arguments, calls):
    log = tmp_path / "strace"
    command = ["strace", "-f", "-o", log, "-e", f"trace={','.join(calls)}", program(name)]
    done = subprocess.run([*command, *arguments, "now"], capture_output=True, text=True, check=True)
    said = dict(line.split() for line in done.stdout.splitlines() if " " in line)
    seen = log.read_text()
    for call in calls:
        # strace prints an interrupted call twice, but "resumed" has no parenthesis.
        assert seen.count(f" {call}(") == int(said[call])
