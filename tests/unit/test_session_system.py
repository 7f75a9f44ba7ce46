# SPDX-License-Identifier: Apache-2.0
"""System-wide: one phrase covers all processes that kwatch may not read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kwatch.commands.watch import messages
from kwatch.errors import KwatchError
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.session import tracees as module
from kwatch.session.attaching import Attaching
from kwatch.session.notices import Notices
from kwatch.session.tracees import Tracees

NO_TARGET = 9


@pytest.fixture
def tracees(monkeypatch):
    """Processes 1 to 9 exist, odd ones cannot be read and even ones have no files."""

    def read_mappings(pid):
        if pid % 2:
            raise KwatchError(f"cannot read the mappings of process {pid}: Permission denied")
        return []

    monkeypatch.setattr(module, "read_mappings", read_mappings)
    monkeypatch.setattr(module.processes, "all_pids", lambda: list(range(1, 10)))
    monkeypatch.setattr(
        module.processes, "facts", lambda pid: ProcessFacts(pid, 1.0, "any", "/any")
    )
    tracer = SimpleNamespace(
        attacher=SimpleNamespace(
            detach=lambda pid: None, reads_all_registers=True, spares_returns=True
        ),
        losses=SimpleNamespace(forget=lambda pid: None),
        targets=SimpleNamespace(
            own=set(),
            mm_id=lambda pid: pid % NO_TARGET,
            owner=lambda pid: 0,
            remove=lambda pid, mm_id: True,
        ),
    )
    options, notices = TraceOptions(), Notices(lambda line: None)
    found = Tracees(options, tracer, None, notices, on_end=lambda process: None)
    Attaching(options, tracer, None, found).attach_system()
    return found


def test_one_phrase_for_all_that_may_not_be_read(tracees):
    line = messages._coverage(tracees, [])
    assert line.count("not ") == 1
    assert "5 processes such as 1" in line
    assert "CAP_SYS_PTRACE" in line


def test_the_gap_is_that_process_alone(tracees):
    hidden, open_ = tracees.discover(3), tracees.discover(4)
    assert "cannot be read" in tracees.gap(hidden)
    assert tracees.gap(open_) == ""
    assert tracees.untraced(open_) == tracees.system.nothing_found


def test_who_is_no_target_is_not_discovered(tracees):
    assert tracees.discover(NO_TARGET) is None
    assert tracees.process_table.get(NO_TARGET) is None


def test_a_later_process_of_the_same_pid_is_not_blamed(tracees):
    process = tracees.discover(3)
    tracees.end([process])
    assert 3 not in tracees.unreadable
