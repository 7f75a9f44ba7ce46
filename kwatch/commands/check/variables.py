# SPDX-License-Identifier: Apache-2.0
"""Names the variable at an address, also of a process that has ended: from its mapped code."""

from __future__ import annotations

from contextlib import suppress
from os.path import basename

from kwatch.elf.elf import Elf, ElfError
from kwatch.processes.process import Process
from kwatch.procfs.mappings import Mapping, file_of

#: Data follows the code of its file within this distance.
_MAX_DISTANCE = 1 << 30


def variable_at(process: Process, address: int) -> str:
    """`buffer+0x10 (app)`; empty if no variable with a name is there."""
    before = [m for m in process.code.space if m.start <= address < m.start + _MAX_DISTANCE]
    if not before:
        return ""
    mapping = max(before, key=lambda each: each.start)
    with suppress(OSError, ElfError):
        return _named(process.pid, mapping, address)
    return ""


def _named(pid: int, mapping: Mapping, address: int) -> str:
    path = file_of(pid, mapping)
    if not path:
        return ""
    with Elf.open(path) as elf:
        start = elf.vaddr_of(mapping.offset)
        found = None if start is None else elf.variable_at(address - mapping.start + start)
    if found is None:
        return ""
    name, offset = found
    return f"{name}{f'+{offset:#x}' if offset else ''} ({basename(mapping.path)})"
