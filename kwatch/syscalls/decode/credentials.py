# SPDX-License-Identifier: Apache-2.0
"""Capabilities: 64 bits in two structures, the lower halves of all sets in the first one."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kwatch.syscalls.calls import Argument, Call
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.style import Pieces, Show, Style

_SETS = ("effective", "permitted", "inheritable")
_HALF = struct.Struct("<3I")


def capabilities_maker(call: Call, argument: Argument, style: Style) -> Show:
    names = named_set("capability", style.abi)
    assert names is not None

    def listed(bits: int) -> str:
        return "|".join(f"1<<{names[i]}" for i in range(64) if bits >> i & 1) or "0"

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        if len(data) < _HALF.size:
            return "{...}"
        low = _HALF.unpack_from(data)
        high = _HALF.unpack_from(data, _HALF.size) if len(data) >= 2 * _HALF.size else (0, 0, 0)
        values = (first | second << 32 for first, second in zip(low, high, strict=True))
        pairs = zip(_SETS, values, strict=True)
        return "{" + ", ".join(f"{name}={listed(bits)}" for name, bits in pairs) + "}"

    return show
