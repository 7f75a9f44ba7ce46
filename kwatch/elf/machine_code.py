# SPDX-License-Identifier: Apache-2.0
"""Reads machine code: the disassembler of a machine, and the parts of its registers."""

from __future__ import annotations

from functools import cache
from typing import Any

EM_AARCH64 = 183


@cache
def disassembler(machine: int, detail: bool) -> Any:
    """capstone's, with the operands and groups of each instruction if `detail` says so."""
    import capstone

    if machine == EM_AARCH64:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    else:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = detail
    return engine


def _whole_x86_registers() -> dict[str, str]:
    parts: dict[str, str] = {}
    for letter in "abcd":
        names = (f"e{letter}x", f"{letter}x", f"{letter}l", f"{letter}h")
        parts |= dict.fromkeys(names, f"r{letter}x")
    for name in ("si", "di", "bp", "sp"):
        parts |= dict.fromkeys((f"e{name}", name, f"{name}l"), f"r{name}")
    for number in range(8, 16):
        parts |= {f"r{number}{size}": f"r{number}" for size in "dwb"}
    return parts


#: The whole register by the name of a part of it.
X86_WHOLE = _whole_x86_registers()
ARM_WHOLE = {"lr": "x30", "wsp": "sp", **{f"w{number}": f"x{number}" for number in range(31)}}
