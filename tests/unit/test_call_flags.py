# SPDX-License-Identifier: Apache-2.0
"""What the BPF programs are told to do with each system call."""

from __future__ import annotations

import pytest

from kwatch.model.options import TraceOptions
from kwatch.session.tracer import call_flags
from kwatch.syscalls.names import everything
from kwatch.syscalls.select import numbers
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, CALL_ROLE_SHIFT, CallFlag, MemoryRole, SpecialRole

ONLY_READ = TraceOptions(trace=frozenset(["read"]))


def flags_of(options, abi, name):
    (number,) = numbers(frozenset([name]), abi)
    return int(call_flags(options, everything())[abi * CALL_NUMBERS + number])


@pytest.mark.parametrize(
    ("abi", "name", "role"),
    [
        (Abi.X86_64, "mmap", MemoryRole.MMAP),
        (Abi.I386, "mmap", MemoryRole.OLD_MMAP),
        (Abi.I386, "mmap2", MemoryRole.MMAP),
        (Abi.ARM, "mmap2", MemoryRole.MMAP),
        (Abi.AARCH64, "brk", MemoryRole.BRK),
        (Abi.X86_64, "prctl", MemoryRole.PRCTL),
    ],
)
def test_calls_that_change_the_memory(abi, name, role):
    assert flags_of(ONLY_READ, abi, name) == CallFlag.MEMORY | role << CALL_ROLE_SHIFT


def test_what_is_chosen_is_traced_in_every_abi():
    for abi in Abi:
        assert flags_of(ONLY_READ, abi, "read") == CallFlag.TRACE
        assert flags_of(ONLY_READ, abi, "write") == 0
        assert flags_of(ONLY_READ, abi, "exit_group") == CallFlag.NO_RETURN


def test_without_a_heap_only_what_is_chosen():
    options = TraceOptions(heap=False, heap_stacks=False, trace=frozenset(["read"]))
    assert flags_of(options, Abi.X86_64, "mmap") == 0


def test_the_calls_of_signal_handlers_are_watched_with_any_other():
    expected = CallFlag.SPECIAL | SpecialRole.SIGRETURN << CALL_ROLE_SHIFT
    assert flags_of(ONLY_READ, Abi.X86_64, "rt_sigreturn") == expected
    nothing = TraceOptions(syscalls=False)
    assert flags_of(nothing, Abi.X86_64, "rt_sigreturn") == 0


@pytest.mark.parametrize("name", ["connect", "semop"])
def test_a_call_inside_another_is_traced_but_not_the_other(name):
    options = TraceOptions(trace=frozenset([name]))
    flags = call_flags(options, everything())
    inside = [flags[Abi.I386 * CALL_NUMBERS + nr] for nr in numbers(frozenset([name]), Abi.I386)]
    assert inside == [CallFlag.TRACE] * len(inside) != []
    outer = "ipc" if name == "semop" else "socketcall"
    assert not flags_of(options, Abi.I386, outer) & CallFlag.TRACE


def test_only_results_of_32_bits_can_look_like_errors():
    options = TraceOptions(trace=frozenset(["getuid"]))
    expected = CallFlag.TRACE | CallFlag.SPECIAL | SpecialRole.NEVER_FAILS << CALL_ROLE_SHIFT
    assert flags_of(options, Abi.I386, "getuid") == expected
    assert flags_of(options, Abi.X86_64, "getuid") == CallFlag.TRACE
