# SPDX-License-Identifier: Apache-2.0
"""The set of targets, while processes become targets by themselves."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from kwatch.session.tracer import Tracer
from kwatch.wire.maps import Target, TargetFlag

PID = 7


class Targets:
    """The map. `before_add` is what the programs do a moment before."""

    def __init__(self):
        self.values = {}
        self.before_add = lambda: None

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        self.values[key] = value

    def add(self, key, value):
        self.before_add()
        return self.values.setdefault(key, value) is value


@pytest.fixture
def targets():
    return Targets()


@pytest.fixture
def tracer(targets):
    made = Tracer.__new__(Tracer)  # without programs, which take root
    made.programs = SimpleNamespace(maps={"targets": targets})
    return made


def exec_of(targets, mm_id, flags):
    """An exec that has made the process a target."""
    targets.values[struct.pack("I", PID)] = bytes(Target(mm_id, flags, unmaps=3))


@pytest.mark.parametrize("flags", [TargetFlag.INHERIT, TargetFlag.INHERIT | TargetFlag.BY_COMM])
def test_an_exec_that_came_first_has_named_the_image(tracer, targets, flags):
    exec_of(targets, 1234, TargetFlag.INHERIT | TargetFlag.BY_COMM)
    assert tracer.add_target(PID, flags).mm_id == tracer.mm_id(PID) == 1234
    found = Target.from_buffer_copy(targets.get(struct.pack("I", PID)))
    assert (found.flags, found.unmaps) == (flags, 3)


def test_an_exec_in_the_same_moment(tracer, targets):
    targets.before_add = lambda: exec_of(targets, 1234, TargetFlag.INHERIT)
    assert tracer.add_target(PID, TargetFlag.INHERIT).mm_id == tracer.mm_id(PID) == 1234


def test_every_image_is_another(tracer):
    assert tracer.mm_id(PID) == 0
    assert tracer.add_target(PID, 0).mm_id == tracer.mm_id(PID) != 0
    assert tracer.add_target(PID + 1, 0).mm_id != tracer.mm_id(PID)
