# SPDX-License-Identifier: Apache-2.0
"""Call instructions of a real library, compared with a disassembler."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import capstone
import pytest

from kwatch.procfs.mappings import read_mappings
from kwatch.unwind.call_sites import MAX_LENGTH, follows_call
from kwatch.unwind.machines import ARM64, X86_64, Machine

MOST = 1 << 20


def machine() -> tuple[Machine, capstone.Cs]:
    if platform.machine() == "aarch64":
        return ARM64, capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    return X86_64, capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def test_calls_of_libc() -> None:
    ours, disassembler = machine()
    disassembler.skipdata = True
    mapping = next(
        m for m in read_mappings(os.getpid()) if m.executable and Path(m.path).name == "libc.so.6"
    )
    size = min(mapping.end - mapping.start, MOST)
    code = Path(mapping.path).read_bytes()[mapping.offset : mapping.offset + size]
    calls = others = wrong = 0
    for address, length, mnemonic, _ in disassembler.disasm_lite(code, 0):
        at = address + length
        found = follows_call(ours, code[max(at - MAX_LENGTH, 0) : at])
        if mnemonic in ("call", "bl", "blr", "blraa", "blraaz"):
            calls += 1
            assert found, (hex(address), mnemonic)
        else:
            others += 1
            wrong += found
    assert calls > 1000
    assert wrong < others / 100  # operands may look like a call instruction


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("e8 00 00 00 00", True),  # call rel32
        ("ff d0", True),  # call *%rax
        ("41 ff d4", True),  # call *%r12
        ("ff 15 00 00 00 00", True),  # call *0(%rip)
        ("ff 50 18", True),  # call *24(%rax)
        ("ff 14 c5 00 00 00 00", True),  # call *(,%rax,8)
        ("ff 54 24 08", True),  # call *8(%rsp)
        ("48 8d 78 10 90", False),
        ("ff e0", False),  # jmp *%rax
        ("e8", False),
        ("", False),
    ],
)
def test_x86_64(before: str, expected: bool) -> None:
    assert follows_call(X86_64, bytes.fromhex(before)) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [(0x94000001, True), (0xD63F0100, True), (0xD73F0801, True), (0xD65F03C0, False)],
)
def test_arm64(word: int, expected: bool) -> None:
    assert follows_call(ARM64, word.to_bytes(4, "little")) == expected
