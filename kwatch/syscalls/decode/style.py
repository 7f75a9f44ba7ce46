# SPDX-License-Identifier: Apache-2.0
"""What every function that shows an argument takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from kwatch.wire.events import Abi

#: As kwatch.syscalls.capture_format has them, the nested argument's chunks behind them.
Pieces = Sequence[bytes | None]
#: The text of captured bytes, from them, the registers, the result and all pieces of the call.
Show = Callable[[bytes, Sequence[int], int, Pieces], str]


class Descriptors(Protocol):
    """Gives a descriptor of the call that is being shown with what it refers to.

    `3</etc/passwd>`; the number alone where that is unknown. -100 is `AT_FDCWD`.
    """

    def argument(self, fd: int) -> str:
        """As it was when the call began."""

    def result(self, fd: int) -> str:
        """As the call has left it."""


class Style(NamedTuple):
    """How much is shown, and how a descriptor is."""

    abi: Abi
    #: bytes of a string
    strings: int = 32
    #: None shows plain numbers
    descriptors: Descriptors | None = None


def descriptor_text(style: Style, is_new: bool = False) -> Callable[[int], str]:
    """How a descriptor is shown, or one that the call has made."""
    if style.descriptors is None:
        return str
    return style.descriptors.result if is_new else style.descriptors.argument
