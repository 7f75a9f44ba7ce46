# SPDX-License-Identifier: Apache-2.0
"""Functions of the C library that return their first argument, as a file calls them."""

from __future__ import annotations

from functools import cached_property

from kwatch.elf.elf import Elf
from kwatch.elf.linkage_table import slot_of

_NAMES = ("memset", "memcpy", "memmove", "strcpy", "strncpy", "strcat", "strncat")
#: _FORTIFY_SOURCE calls the second ones, which check the size first.
_IDENTITIES = tuple(name for each in _NAMES for name in (each, f"__{each}_chk"))


class Identities:
    """Contains the addresses of these functions, and those of their slots and linkage entries.

    Reads the file's symbols when it is first asked. `keeps_symbols`: the file is read more often,
    so they stay in memory.
    """

    def __init__(self, elf: Elf, keeps_symbols: bool) -> None:
        self._elf = elf
        self._keeps_symbols = keeps_symbols

    def __contains__(self, address: object) -> bool:
        """Raises ElfError."""
        if not isinstance(address, int):
            return False
        slots, functions = self._found
        return address in functions or address in slots or slot_of(self._elf, address) in slots

    @cached_property
    def _found(self) -> tuple[set[int], set[int]]:
        slots = self._elf.slots_of(_IDENTITIES)
        functions = {each.vaddr for each in self._elf.functions(_IDENTITIES).values()}
        if not self._keeps_symbols:
            self._elf.forget_symbols()
        return slots, functions
