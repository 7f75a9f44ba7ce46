# SPDX-License-Identifier: Apache-2.0
"""What the BPF programs are told to do with each system call."""

from __future__ import annotations

import pytest

from kwatch.model.options import TraceOptions
from kwatch.session.tracer import call_flags
from kwatch.syscalls.names import everything
from kwatch.syscalls.select import numbers
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, CALL_ROLE_SHIFT, CallFlag, MemoryRole

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
