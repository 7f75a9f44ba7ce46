# SPDX-License-Identifier: Apache-2.0
"""Finds code that the verifiers of older kernels refuse, without booting those kernels."""

from __future__ import annotations

import struct

import pytest
from harness.bpf_objects import compiled_programs

from kwatch.programs.source import AttachMethods, ProgramConfig

_JUMPS = (5, 6)  # BPF_JMP, BPF_JMP32
_CALL, _EXIT, _ALWAYS = 0x80, 0x90, 0x05


def successors(instructions, at):
    """Possible next instructions, each with whether a jump leads there.

    As check_cfg() of Linux 5.10 and 6.1 sees them.
    """
    code, _, offset, _ = instructions[at]
    kind, operation = code & 7, code & 0xF0
    if kind not in _JUMPS or operation == _CALL:
        return [(at + 1, False)]
    if operation == _EXIT:
        return []
    return [(at + offset + 1, True)] + [(at + 1, True)] * (code != _ALWAYS)


def falls_back(code):
    """Back edges that are not jumps, which these kernels refuse.

    The verifiers walk depth first, and follow the next instruction before a jump's target.
    """
    instructions = list(struct.iter_unpack("BBhi", code))
    entered, left = {0}, set()
    walk = [(0, iter(successors(instructions, 0)[::-1]))]
    found = []
    while walk:
        at, rest = walk[-1]
        for target, is_jump in rest:
            if target not in entered:
                entered.add(target)
                walk.append((target, iter(successors(instructions, target)[::-1])))
                break
            if target not in left and not is_jump:
                found.append((at, target))
        else:
            left.add(at)
            walk.pop()
    return found


NAMED = {"comm_patterns": 3, "follow": True, "min_size": 10, "max_size": 1000}


@pytest.mark.parametrize(
    "methods",
    [
        AttachMethods(False, False),  # 5.10
        AttachMethods(False, False, event_cookies=True, atomics=True, young_blocks=True),  # 6.1
        AttachMethods(True, False, atomics=True, young_blocks=True),
        AttachMethods(True, True, atomics=True, young_blocks=True),
    ],
)
@pytest.mark.parametrize("heap", [True, False])
@pytest.mark.parametrize("settings", [{}, {"system_wide": True}, NAMED])
@pytest.mark.parametrize("calls", ["call_stacks", "call_sums"])
def test_loops_go_round_by_jumps(methods, heap, settings, calls):
    config = ProgramConfig(heap=heap, heap_stacks=heap, **{calls: True}, **settings)
    programs = compiled_programs(config, methods)
    assert ("unwind_call" in programs) == config.stacks
    assert not [name for name, code in programs.items() if falls_back(code)]


@pytest.mark.parametrize("through_perf", [False, True])
@pytest.mark.parametrize("free_stacks", [False, True])
def test_loops_where_releases_are_checked_go_round_by_jumps(through_perf, free_stacks):
    methods = AttachMethods(through_perf, through_perf, atomics=through_perf)
    config = ProgramConfig(heap=True, checks=True, free_stacks=free_stacks, follow=True)
    programs = compiled_programs(config, methods)
    assert ("heap_realloc_release" in programs) == free_stacks
    assert not [name for name, code in programs.items() if falls_back(code)]


@pytest.mark.parametrize("through_perf", [False, True])
def test_loops_of_recorded_calls_go_round_by_jumps(through_perf):
    methods = AttachMethods(False, through_perf, atomics=True)
    config = ProgramConfig(
        heap=False, heap_stacks=False, record=True, area=1 << 20, follow=True, io_uring=True
    )
    programs = compiled_programs(config, methods)
    assert {
        "io_submitted",
        "io_completed",
        "capture_call",
        "capture_nested",
        "call_signal",
    } <= programs.keys()
    assert not [name for name, code in programs.items() if falls_back(code)]


@pytest.mark.parametrize("heap", [True, False])
@pytest.mark.parametrize("atomics", [True, False])
def test_loops_of_watchpoints_go_round_by_jumps(heap, atomics):
    methods = AttachMethods(False, False, atomics=atomics)
    config = ProgramConfig(heap=heap, heap_stacks=heap, watch=True)
    programs = compiled_programs(config, methods)
    assert {"watch_hit", "unwind_hit"} <= programs.keys()
    assert not [name for name, code in programs.items() if falls_back(code)]


def test_a_loop_that_falls_back_is_found():
    """goto 2; r1 += 0 (the loop falls from here back to its head); if r1: goto 1; exit."""
    code = [(0x05, 0, 1, 0), (0x07, 1, 0, 0), (0x55, 1, -2, 0), (0x95, 0, 0, 0)]
    assert falls_back(b"".join(struct.pack("BBhi", *one) for one in code)) == [(1, 2)]
