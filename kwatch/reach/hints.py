# SPDX-License-Identifier: Apache-2.0
"""Guesses what blocks are: the C++ class of an object, their text.

A class is read from the process's memory, where the type information that the vtable leads to is.
The program needs no symbols, but to be compiled with RTTI, as is usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from kwatch.aggregate.order import U64, Index
from kwatch.reach.memory import WORD, TargetMemory, Unreadable, as_ranges
from kwatch.reach.peek import words_at
from kwatch.reach.ranges import contains, merged
from kwatch.reach.regions import Region
from kwatch.symbols.demangle.demangle import demangle

_MAX_NAME = 512
_MAX_TEXT = 32
_MIN_TEXT = 4  # fewer bytes are printable by chance, as in strings(1)
_PREFIX = "vtable for "


class Hints:
    """Hints about the blocks of one process."""

    def __init__(self, memory: TargetMemory, regions: Sequence[Region]) -> None:
        self._memory = memory
        files = [region for region in regions if region.inode and not region.is_shared]
        self._data = [region for region in files if region.permissions[2] != "x"]
        self._code = [region for region in files if region.permissions[2] == "x"]

    def types(self, addresses: U64) -> tuple[Index, list[str]]:
        """The C++ classes of the blocks there: for each block a number, and for each number the
        class. The first is empty, for blocks of no class."""
        words, which = np.unique(words_at(self._memory, addresses), return_inverse=True)
        numbers = np.zeros(len(words), np.intp)
        classes = {"": 0}
        data = merged(as_ranges((region.start, region.end) for region in self._data))
        for at in np.flatnonzero(contains(data, words)).tolist():
            vtable = int(words[at])
            name = self._class_of(vtable) if self._is_vtable(vtable) else ""
            numbers[at] = classes.setdefault(name, len(classes))
        return numbers[which.reshape(-1)], list(classes)

    def text(self, address: int, size: int) -> str:
        """The printable characters at the beginning of a block; empty if they are few.

        They may be secret: show them on request only.
        """
        raw = self._bytes(address, min(size, _MAX_TEXT))
        found = "".join(takewhile(str.isprintable, raw.decode("utf-8", "surrogateescape")))
        return found if len(found) >= _MIN_TEXT else ""

    def _is_vtable(self, address: int) -> bool:
        """Whether a file's data hold an address of code there."""
        if address % WORD or not _inside(self._data, address):
            return False
        function = self._word(address)
        return function is not None and _inside(self._code, function)

    def _class_of(self, vtable: int) -> str:
        """The Itanium C++ ABI: the type information is in front, and begins with its own vtable
        and the address of the class's name."""
        information = self._word(vtable - WORD)
        if not information or not _inside(self._data, information):
            return ""
        name_at = self._word(information + WORD)
        if not name_at or not _inside([*self._data, *self._code], name_at):
            return ""
        name = self._bytes(name_at).decode("utf-8", "replace")
        name = name.removeprefix("*")  # of a class that only this file knows
        full = demangle(f"_ZTV{name}")
        return full.removeprefix(_PREFIX) if full.startswith(_PREFIX) else ""

    def _bytes(self, address: int, most: int = _MAX_NAME) -> bytes:
        """What is there before a zero; nothing if it cannot be read."""
        while most:
            try:
                found = self._memory.bytes(address, most).tobytes()
            except Unreadable:
                most //= 2  # less, if the next page is not there
                continue
            return found.partition(b"\0")[0]
        return b""

    def _word(self, address: int) -> int | None:
        try:
            return int(self._memory.words(address, 1)[0])
        except (Unreadable, OverflowError):
            return None


def _inside(regions: Sequence[Region], address: int) -> bool:
    return any(region.start <= address < region.end for region in regions)
