# SPDX-License-Identifier: Apache-2.0
"""The table of system calls as rows: it travels with a recording."""

from __future__ import annotations

from typing import Any

from kwatch.syscalls import calls, names
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS

_EFFECTS = {
    calls.Effect.READS_STATUS: "reads status",
    calls.Effect.WRITES_STATUS: "writes status",
    calls.Effect.READS_CONTENT: "reads content",
    calls.Effect.WRITES_CONTENT: "writes content",
}


def table_of_calls() -> list[dict[str, Any]]:
    """Every call of every ABI."""
    found = []
    for abi in Abi:
        for nr in range(CALL_NUMBERS):
            call = calls.call(abi, nr)
            if call is not None:
                found.append(
                    {
                        "abi": abi.name.lower(),
                        "nr": nr,
                        "name": names.name(abi, nr),
                        "effect": _EFFECTS[call.effect],
                        "arguments": [argument.name for argument in call.arguments],
                    }
                )
    return found
