# SPDX-License-Identifier: Apache-2.0
"""Skips a test whose requirements are missing; with KWATCH_REQUIRE_KERNEL=1 the test fails."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from harness.requirements import missing

# On a loaded machine an example may take long without any fault of the code.
hypothesis.settings.register_profile("kwatch", deadline=None)
hypothesis.settings.load_profile("kwatch")

# nohup ignores SIGHUP, and the programs under test would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)

KERNEL_TESTS = Path(__file__).parent / "kernel"
KERNEL_NEEDS = ("root", "bcc", "gcc")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(KERNEL_TESTS):
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(autouse=True)
def file_helper_ends() -> Iterator[None]:
    """A test that reads a file through the helper leaves no helper to the next test."""
    yield
    if served := sys.modules.get("kwatch.procfs.served_files"):
        served.SERVED.close()


@pytest.fixture(autouse=True)
def signals_stay_as_they_were() -> Iterator[None]:
    """A test that runs a command in this process does not change what later programs inherit."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def pytest_runtest_setup(item: pytest.Item) -> None:
    reasons = [reason for name in _needs(item) if (reason := missing(name))]
    if not reasons:
        return
    if os.environ.get("KWATCH_REQUIRE_KERNEL") == "1":
        pytest.fail("; ".join(reasons), pytrace=False)
    pytest.skip("; ".join(reasons))


@pytest.fixture(autouse=True)
def no_compiler_here() -> Iterator[None]:
    """Fails the test that loads bcc: a crash of its compiler here would end the whole run."""
    was_loaded = "bcc" in sys.modules
    yield
    assert was_loaded or "bcc" not in sys.modules, "compile in a child: see harness.bpf_objects"


def _needs(item: pytest.Item) -> Iterator[str]:
    if item.get_closest_marker("kernel"):
        yield from KERNEL_NEEDS
    for marker in item.iter_markers("needs"):
        yield from marker.args


def pytest_runtest_logstart(nodeid: str) -> None:
    _report({"test": nodeid, "outcome": "running", "why": "", "seconds": 0.0})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    why = ""
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        why = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        why = report.longreprtext.partition("\nE  ")[2].partition("\n")[0].strip()[:300]
    line = {"test": report.nodeid, "outcome": report.outcome, "why": why}
    _report({**line, "seconds": round(report.duration, 1)})


def _report(line: dict[str, str | float]) -> None:
    """Appends a line to the file that KWATCH_REPORT names; tools/vm reads it."""
    if path := os.environ.get("KWATCH_REPORT"):
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
