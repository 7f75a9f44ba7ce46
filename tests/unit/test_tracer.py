# SPDX-License-Identifier: Apache-2.0
"""The map of targets, while the BPF programs add targets too."""

from __future__ import annotations

import struct

import pytest

from kwatch.session.target_map import TargetMap
from kwatch.wire.maps import Target, TargetFlag

PID = 7


class Targets:
    """The BPF map. `before_add`: what the BPF programs do just before kwatch's own insert."""

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
def target_map(targets):
    return TargetMap(targets, lambda: None)


def exec_of(targets, mm_id, flags):
    """An exec that makes the process a target."""
    targets.values[struct.pack("I", PID)] = bytes(Target(mm_id, flags, unmaps=3))


@pytest.mark.parametrize("flags", [TargetFlag.INHERIT, TargetFlag.INHERIT | TargetFlag.BY_COMM])
def test_an_exec_that_came_first_has_named_the_image(target_map, targets, flags):
    exec_of(targets, 1234, TargetFlag.INHERIT | TargetFlag.BY_COMM)
    assert target_map.add(PID, flags).mm_id == target_map.mm_id(PID) == 1234
    found = Target.from_buffer_copy(targets.get(struct.pack("I", PID)))
    assert (found.flags, found.unmaps) == (flags, 3)


def test_an_exec_in_the_same_moment(target_map, targets):
    targets.before_add = lambda: exec_of(targets, 1234, TargetFlag.INHERIT)
    assert target_map.add(PID, TargetFlag.INHERIT).mm_id == target_map.mm_id(PID) == 1234


def test_every_image_is_another(target_map):
    assert target_map.mm_id(PID) == 0
    assert target_map.add(PID, 0).mm_id == target_map.mm_id(PID) != 0
    assert target_map.add(PID + 1, 0).mm_id != target_map.mm_id(PID)
