# SPDX-License-Identifier: Apache-2.0
"""What every function that shows an argument takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kwatch.wire.events import Abi

#: As kwatch.syscalls.capture_format has them, the nested argument's chunks behind them.
Pieces = Sequence[bytes | None]
#: The text of captured bytes, from them, the registers, the result and all pieces of the call.
Show = Callable[[bytes, Sequence[int], int, Pieces], str]


class Style(NamedTuple):
    """How much is shown, and how a descriptor is."""

    abi: Abi
    #: bytes of a string
    strings: int = 32
    #: a descriptor with what it refers to, such as `3</etc/passwd>`
    descriptor: Callable[[int], str] | None = None
