# SPDX-License-Identifier: Apache-2.0
"""A file system that does not answer costs the reports of its own programs only."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from harness.fuse import FuseMount
from harness.lines import DEADLINE

from kwatch.procfs.mappings import read_mappings
from kwatch.procfs.mounts import may_hang

pytestmark = pytest.mark.needs("fuse")


@pytest.fixture
def mount(program, tmp_path):
    """A program on a FUSE file system, which answers until it is told to stop."""
    mounted = FuseMount(tmp_path / "mounted", program("leaky"))
    yield mounted
    mounted.close()


@pytest.fixture(params=["stopped", "silent"])
def hang(request, mount):
    return mount.stop if request.param == "stopped" else mount.fall_silent


def helpers(pid):
    """The children of a process."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_program_on_a_served_file_system_is_traced(start, run_kwatch, mount):
    """From a copy, with names and lines, as from a disk."""
    target = start(mount.file)
    (code,) = [m for m in read_mappings(target.pid) if m.path == str(mount.file) and m.executable]
    assert may_hang(target.pid, code.device, code.path)
    kwatch = run_kwatch("--pid", target.pid, "--json", "--older", "0")
    kwatch.attached()
    answers = target.go()
    result = kwatch.stop()
    heap = result.final(target.pid)["heap"]
    assert heap["live_bytes"] == answers["live_bytes"]
    assert {stack["frames"][-1]["symbol"] for stack in heap["stacks"]} == {"_start"}
    assert any(f["file"].endswith("leaky.c") for s in heap["stacks"] for f in s["frames"])
    assert target.end() == 0


def test_one_that_does_not_answer_is_refused(start, run_kwatch, mount, hang):
    hung = start(mount.file)
    hang()
    kwatch = run_kwatch("--pid", hung.pid, "--json", "--older", "60")
    line = kwatch.attached()
    assert f"not {mount.file} (its file system does not answer)" in line
    hung.go()
    result = kwatch.stop(signal.SIGTERM)
    final = result.final(hung.pid)
    assert result.status == 0
    assert final["verdict"] == "leak"  # its memory can be read all the same
    gap = f"; besides, these functions could not be probed: {mount.file}"
    assert gap in final["reason"]
    assert final["heap"]["allocs"] > 0
    said = [line for line in result.stderr if "does not answer" in line and "attached" not in line]
    assert len(said) == 1
    assert hung.end() == 0


def test_the_others_are_traced(start, run_kwatch, mount, hang, tmp_path, program):
    """With --comm, one hung process delays the others by seconds at most."""
    hung = start(mount.file)
    hang()
    well = start("leaky")
    kwatch = run_kwatch("--comm", "leaky", "--json", "--older", "0")
    began = time.monotonic()
    kwatch.attached()
    assert time.monotonic() - began < DEADLINE / 2
    answers = well.go()
    late = start("leaky")
    kwatch.said(lambda line: line.startswith(f"attached to leaky[{late.pid}]"))
    result = kwatch.stop()
    assert result.status == 0
    assert result.final(well.pid)["heap"]["live_bytes"] == answers["live_bytes"]
    assert result.final(hung.pid)["heap"] is not None


def test_it_stops_answering_while_it_is_traced(start, run_kwatch, mount, hang):
    target = start(mount.file)
    kwatch = run_kwatch("--pid", target.pid, "--json", "--interval", "0.2", "--older", "0")
    kwatch.attached()
    hang()
    answers = target.go()
    result = kwatch.stop()
    assert result.status == 0
    assert result.final(target.pid)["heap"]["live_bytes"] == answers["live_bytes"]
    assert target.end() == 0
