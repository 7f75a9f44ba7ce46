# SPDX-License-Identifier: Apache-2.0
"""Names for functions of a stripped C library that are entered by a jump.

`fopen` of glibc ends with a jump to a function without a name, so only that one is in a stack.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from kwatch.elf.elf import Elf, ElfError, Function
from kwatch.elf.machine_code import disassembler
from kwatch.model.c_library import PUBLIC_FUNCTIONS, keeps
from kwatch.model.frame import Frame
from kwatch.unwind.eh_frame import read_entries

_MAX_FUNCTION = 1 << 13  # bytes
_MAX_EH_FRAME = 16 << 20
_BRANCH = re.compile(r"(?:bnd |notrack )*j\w+|b(?:\.\w+)?|cbn?z|tbn?z")
_TARGET = re.compile(r"(?:.*#)?(0x[0-9a-f]+)")


class TailCalls:
    """The functions of one file to which a public function of the C library jumps."""

    def __init__(self, elf: Elf) -> None:
        self._found = _functions(elf)
        self._starts = [start for start, _, _ in self._found]

    def find(self, vaddr: int) -> tuple[str, int] | None:
        """The name of the public function, and the offset in the function that contains vaddr."""
        at = bisect_right(self._starts, vaddr) - 1
        if at < 0:
            return None
        start, end, name = self._found[at]
        return (name, vaddr - start) if vaddr < end else None


def _functions(elf: Elf) -> list[tuple[int, int, str]]:
    """(start, end, name) by address; none if the file cannot be read."""
    try:
        names = _targets(elf)
        section = elf.section(b".eh_frame", _MAX_EH_FRAME)
    except ElfError:
        return []
    if section is None:
        return []
    vaddr, data = section
    return sorted(
        (fde.start, fde.start + fde.size, names[fde.start])
        for fde in read_entries(data, vaddr)
        if fde.start in names
    )


def _targets(elf: Elf) -> dict[int, str]:
    """A public function that jumps to each address; none if the library keeps only some results."""
    found: dict[int, list[str]] = defaultdict(list)
    public = elf.functions(PUBLIC_FUNCTIONS)
    entries = {function.vaddr for function in public.values()}
    for function in public.values():
        for target in _jumps(elf, function):
            if target not in entries:
                found[target].append(function.name)
    return {
        target: min(names, key=lambda name: (len(name), name))
        for target, names in found.items()
        if len({keeps([Frame(0, name)]) for name in names}) == 1
    }


def _jumps(elf: Elf, function: Function) -> Iterator[int]:
    """Where jumps lead that leave the function."""
    code = elf.read(function.vaddr, min(function.size, _MAX_FUNCTION))
    end = function.vaddr + function.size
    for _, _, mnemonic, operands in disassembler(elf.machine, False).disasm_lite(
        code, function.vaddr
    ):
        target = _TARGET.fullmatch(operands) if _BRANCH.fullmatch(mnemonic) else None
        if target and not function.vaddr <= int(target[1], 16) < end:
            yield int(target[1], 16)
