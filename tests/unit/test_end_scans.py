# SPDX-License-Identifier: Apache-2.0
"""Why the memory that a process left behind was not scanned, and what to do about it."""

from __future__ import annotations

import subprocess

import pytest
from harness.nothing_held import nothing_held

from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import LAUNCH_IT, Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.process import Process
from kwatch.report.end_scans import EndScans

PARENT = 1


@pytest.fixture
def process():
    """It has ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    accounts = Accounts.wanted(TraceOptions())
    return Process(ProcessFacts(child.pid, 1.0, "app", "/app"), 1, Coverage(child.pid), accounts)


def why_unscanned(held, process):
    EndScans(held, None, lambda: None).scan(process, 1)
    return process.heap_scan.reach.error


def test_an_exec_that_was_not_noticed(process):
    held = nothing_held()
    held.expect(process.pid)
    assert why_unscanned(held, process).endswith(f"kwatch noticed its exec; {LAUNCH_IT}")


def test_the_verdict_gives_the_advice_once(process):
    held = nothing_held()
    held.expect(process.pid)
    process.coverage.ended_first = True
    assert LAUNCH_IT in process.coverage.own_gap
    assert why_unscanned(held, process).endswith("kwatch noticed its exec")


def test_a_child_cannot_be_launched_by_itself(process):
    held = nothing_held()
    held.expect(PARENT)
    held.forked(PARENT, process.pid, 1 << 62, shares=False)
    assert why_unscanned(held, process).endswith("kwatch noticed its fork")
