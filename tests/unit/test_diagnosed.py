# SPDX-License-Identifier: Apache-2.0
"""What the machine refuses is told with the cause and the cure that doctor would give first."""

from __future__ import annotations

import errno

import pytest

from kwatch.commands.doctor import features
from kwatch.commands.doctor.features import Feature, diagnosed
from kwatch.errors import Refused
from kwatch.kernel.privileges import refused

WORKS = Feature("architecture", True, True, "everything")
OPTIONAL = Feature("uprobe links", False, False, "heap probes", "older kernel", "nothing to do")
LOCKDOWN = Feature("no lockdown", False, True, "everything", "it is locked down", "boot otherwise")
RINGS = Feature("perf rings", False, True, "forks", "Operation not permitted", "run it elsewhere")


@pytest.fixture
def found(monkeypatch):
    """The list of what doctor finds."""
    listed = [WORKS, OPTIONAL]
    monkeypatch.setattr(features, "features", lambda: iter(listed))
    return listed


def test_the_first_cause_comes_with_its_cure(found):
    found += [LOCKDOWN, RINGS]
    error = diagnosed(Refused("a program cannot be loaded: Permission denied", "a guess"))
    assert str(error) == "a program cannot be loaded: Permission denied"
    assert error.hint == "no lockdown: it is locked down\n  boot otherwise"


def test_a_cause_is_told_once(found):
    found.append(RINGS)
    error = refused("a ring cannot be opened", OSError(errno.EPERM, "Operation not permitted"))
    assert str(diagnosed(error)) == "a ring cannot be opened: Operation not permitted"
    assert diagnosed(error).hint == "run it elsewhere"


def test_what_doctor_does_not_know_stays_as_it_is(found):
    error = Refused("a program cannot be loaded: Argument list too long", "a guess")
    assert diagnosed(error) is error
