# SPDX-License-Identifier: Apache-2.0
"""The program that reads threads, and the order of the registers that it and perf read."""

from __future__ import annotations

import struct

import pytest

from kwatch.kernel import registers, task_iterator
from kwatch.kernel.task_iterator import Member

_JUMPS = (task_iterator._IF_EQUAL, task_iterator._IF_NOT_EQUAL)
_RETURN_ZERO = [(0xB7, 0, 0, 0), (0x95, 0, 0, 0)]


@pytest.mark.parametrize("count", [1, 9])
def test_jumps_lead_to_the_end(monkeypatch, count):
    monkeypatch.setattr(task_iterator, "_kernel", lambda: task_iterator._Kernel(1, 8, 16, 24, 168))
    members = [Member(32, 8), *[Member(0, 168, of_registers=True)] * (count // 9)]
    parts = task_iterator._instructions(7, members, task_iterator._from_stack(1 << 14))
    code = list(struct.iter_unpack("<BBhi", task_iterator._assembled(parts)))
    jumps = [at for at, instruction in enumerate(code) if instruction[0] in _JUMPS]
    assert len(jumps) == 2
    assert all(code[at + code[at][2] + 1 :] == _RETURN_ZERO for at in jumps)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_saved_and_sampled_registers_are_the_same(monkeypatch, machine):
    monkeypatch.setattr(registers, "machine", lambda: machine)
    wanted = registers.registers.__wrapped__()
    assert [wanted.saved[place] for place in wanted.places] == list(wanted.names)
    bits = [bit for bit in range(64) if wanted.sample_mask >> bit & 1]
    sample = [wanted.sampled[bit] for bit in bits]  # perf writes them in this order
    assert [sample[place] for place in wanted.sample_order] == list(wanted.names)
    assert len(wanted.names) == {"x86_64": 16, "aarch64": 32}[machine]
    assert [wanted.saved[place] for place in wanted.position] == [wanted.stack_pointer, wanted.pc]
