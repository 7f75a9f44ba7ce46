# SPDX-License-Identifier: Apache-2.0
"""Nothing is kept of what lies behind the null pointer of a vector."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from harness.records import call_record

from kwatch.syscalls import names
from kwatch.syscalls.vector_ends import clear_vector_ends
from kwatch.wire.events import CALL, NO_PIECE, PIECES, Abi, EventType

SECRET = b"secret!!" * 3


def lengths(**sizes):
    """`sizes`: the number of bytes by piece, as p2=16."""
    return [sizes.get(f"p{number}", NO_PIECE) for number in range(PIECES)]


def cleared(abi, name, data, **sizes):
    record = call_record(type=EventType.CALL_ENTRY, abi=abi, nr=names.number(abi, name))
    events = np.array([record], CALL)
    events["pieces"] = lengths(**sizes)
    found = np.frombuffer(data, np.uint8).copy()
    clear_vector_ends(events, np.zeros(1, np.int64), found)
    return found.tobytes()


@pytest.mark.parametrize(("abi", "code"), [(Abi.X86_64, "Q"), (Abi.I386, "I")])
def test_vectors_of_execve(abi, code):
    vector = struct.pack(f"<3{code}", 70, 71, 0)
    size = len(vector) + len(SECRET)
    nested = struct.pack("<I", size) + vector + SECRET + struct.pack("<I", 3) + b"ls\0"
    found = cleared(
        abi, "execve", b"/bin/ls\0" + vector + SECRET + nested, p0=8, p2=size, p12=len(nested)
    )
    assert b"secret" not in found
    assert found == (b"/bin/ls\0" + vector + SECRET + nested).replace(SECRET, bytes(len(SECRET)))


def test_a_vector_without_an_end():
    data = struct.pack("<3Q", 70, 71, 72)
    assert cleared(Abi.X86_64, "execve", data, p2=len(data)) == data


def test_other_calls_are_left_alone():
    assert cleared(Abi.X86_64, "write", bytes(8) + SECRET, p1=8 + len(SECRET)) == bytes(8) + SECRET
