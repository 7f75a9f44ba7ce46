# SPDX-License-Identifier: Apache-2.0
"""Requests of ioctl(2) by name, or by the parts of their number."""

from __future__ import annotations

from kwatch.syscalls.constants import ioctl_names
from kwatch.syscalls.decode.sets import Cached
from kwatch.wire.events import Abi

_DIRECTIONS = ("_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE")


def request_texts(abi: Abi) -> Cached:
    known = ioctl_names(abi)

    def text(value: int) -> str:
        number = value & 0xFFFFFFFF
        name = known.get(number)
        if name is not None:
            return name
        direction, size = _DIRECTIONS[number >> 30], number >> 16 & 0x3FFF
        letter, command = number >> 8 & 0xFF, number & 0xFF
        zero = f"{size:#x}" if size else "0"
        return f"_IOC({direction}, {letter:#x}, {command:#x}, {zero})"

    return Cached(text)
