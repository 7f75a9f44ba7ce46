# SPDX-License-Identifier: Apache-2.0
"""The blocks that a program names, with the class that it expects (tests/programs/blocks.h)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

CLASSES = ("definite", "indirect", "possible", "reachable")


class NamedBlock(NamedTuple):
    name: str
    address: int
    size: int
    expected: str


def named_blocks(lines: Iterable[str]) -> list[NamedBlock]:
    """Parses the `block NAME ADDRESS SIZE CLASS` lines among others."""
    words = (line.split() for line in lines)
    return [
        NamedBlock(name, int(address, 16), int(size), expected)
        for word, name, address, size, expected in (line for line in words if len(line) == 5)
        if word == "block"
    ]
