# SPDX-License-Identifier: Apache-2.0
"""System-wide: processes that may not be looked into are told in one phrase."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kwatch import session as session_module
from kwatch import watch
from kwatch.errors import KwatchError
from kwatch.options import WatchOptions
from kwatch.session import Session
from kwatch.snapshot import ProcessFacts


@pytest.fixture
def session(monkeypatch):
    """Processes 1 to 9 exist, of which odd ones may not be read and even ones have no files."""

    def read_mappings(pid):
        if pid % 2:
            raise KwatchError(f"cannot read the mappings of process {pid}: Permission denied")
        return []

    monkeypatch.setattr(session_module, "read_mappings", read_mappings)
    monkeypatch.setattr(session_module.processes, "all_pids", lambda: list(range(1, 10)))
    monkeypatch.setattr(
        session_module.processes, "facts", lambda pid: ProcessFacts(pid, 1.0, "any", "/any")
    )
    tracer = SimpleNamespace(
        attacher=SimpleNamespace(detach=lambda pid: None),
        forget_losses=lambda pid: None,
        image=lambda pid: 0,
        stream=SimpleNamespace(takes_stacks=True),
    )
    session = Session(WatchOptions(stacks=False), tracer, lambda process: None)
    session.attach_system()
    yield session
    session.close()


def test_one_phrase_for_all_that_may_not_be_read(session):
    line = watch._coverage(session)
    assert line.count("not ") == 1
    assert "5 processes such as 1" in line
    assert "CAP_SYS_PTRACE" in line


def test_the_gap_is_that_process_alone(session):
    hidden, open_ = session._discover(3), session._discover(4)
    assert "may not be read" in session.gap(hidden)
    assert session.gap(open_) == session.system.gap


def test_a_later_process_of_the_same_pid_is_not_blamed(session):
    process = session._discover(3)
    session.end([process])
    assert 3 not in session.unreadable
