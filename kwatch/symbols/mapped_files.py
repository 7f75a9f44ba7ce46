# SPDX-License-Identifier: Apache-2.0
"""Opens the file that a process has mapped, and never another file in its place.

A path is no proof: the file may have been replaced since it was mapped, and its inode number may
have been reused. The link of the kernel to the mapped file is proof, and so is the build-id in the
memory of the process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import chain

from kwatch.elf import layout
from kwatch.elf.elf import Elf, ElfError
from kwatch.errors import KwatchError
from kwatch.procfs.mappings import (
    Mapping,
    is_foreign,
    leading_to,
    link_to,
    paths_of,
    read_mappings,
    served_file,
)
from kwatch.procfs.vdso import is_vdso, read_vdso
from kwatch.system.lru import Lru

_MAX_PROCESSES = 4096


class MappedFiles:
    """After the exit of a process, trusts only files that are older than this object by name."""

    def __init__(self) -> None:
        self._started = time.time()
        self._foreign: Lru[int, bool] = Lru(_MAX_PROCESSES)

    def open(self, pid: int, mapping: Mapping) -> Elf | None:
        """None if the file is out of reach. Raises ElfError if it is not an ELF file."""
        if is_vdso(mapping):
            image = read_vdso()
            return None if image is None else Elf.in_memory(image, "vdso")
        if not mapping.inode:
            return None
        served = served_file(pid, mapping)
        if served is not None:
            path, refused = served.copy()
            if refused:
                raise ElfError(mapping.path, refused)
            return _opened(path)
        foreign = self._is_foreign(pid)
        found = self._by_link(pid, mapping)
        return found if found is not None else self._by_name(pid, mapping, foreign)

    def _by_link(self, pid: int, mapping: Mapping) -> Elf | None:
        for link in _links(pid, mapping):
            if (elf := _opened(link)) is not None:
                return elf
        return None

    def _by_name(self, pid: int, mapping: Mapping, foreign: bool) -> Elf | None:
        program = leading_to(mapping, [f"/proc/{pid}/exe"])
        for path in chain(program, paths_of(pid, mapping, foreign)):
            if (elf := _opened(path)) is None:
                continue
            status = os.fstat(elf.fileno())
            if mapping.may_be(status) and self._is_mapped(pid, mapping, elf, status):
                return elf
            elf.close()
        return None

    def _is_foreign(self, pid: int) -> bool:
        """After the exit of a process, the last known state."""
        now = is_foreign(pid)
        if now is not None:
            self._foreign.put(pid, now)
        return bool(self._foreign.get(pid))

    def _is_mapped(self, pid: int, mapping: Mapping, elf: Elf, status: os.stat_result) -> bool:
        build_id = mapped_build_id(pid, mapping)
        if build_id is not None and elf.build_id is not None:
            return build_id == elf.build_id
        return status.st_ctime < self._started


def _opened(path: str) -> Elf | None:
    try:
        return Elf.open(path)
    except ElfError as error:
        if isinstance(error.__cause__, OSError):
            return None
        raise


def _links(pid: int, mapping: Mapping) -> Iterator[str]:
    """The kernel's links to the file. It may have split or joined the mapping since.

    The link of the mapping itself comes first, because reading all mappings for each of n
    libraries takes a time that grows with n squared.
    """
    if link := link_to(pid, mapping):
        yield link
    for current in _mappings(pid):
        same_place = current.start - current.offset == mapping.start - mapping.offset
        if same_place and _same_file(current, mapping):
            yield f"/proc/{pid}/map_files/{current.start:x}-{current.end:x}"


def _same_file(one: Mapping, other: Mapping) -> bool:
    return (one.device, one.inode, one.path) == (other.device, other.inode, other.path)


def _mappings(pid: int) -> list[Mapping]:
    try:
        return read_mappings(pid)
    except KwatchError:
        return []


def mapped_build_id(pid: int, mapping: Mapping) -> bytes | None:
    """The build-id in the memory of the process; None if it is out of reach."""
    starts = [
        current.start
        for current in _mappings(pid)
        if _same_file(current, mapping) and not current.offset and current.start <= mapping.start
    ]
    if not starts:
        return None
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            return _build_id_at(memory.fileno(), max(starts))
    except (OSError, ValueError, OverflowError):
        return None


def _build_id_at(memory: int, base: int) -> bytes | None:
    header = os.pread(memory, layout.HEADER.size, base)
    if len(header) != layout.HEADER.size or header[:4] != layout.MAGIC:
        return None
    fields = layout.HEADER.unpack(header)
    count = min(fields[10], layout.MAX_HEADERS)
    table = os.pread(memory, count * layout.PROGRAM_HEADER.itemsize, base + fields[5])
    headers = layout.program_headers(table)
    loads = headers[headers["type"] == layout.PT_LOAD]
    if not len(loads):
        return None
    bias = base - (int(loads["vaddr"].min()) & -os.sysconf("SC_PAGESIZE"))
    return layout.build_id(
        headers, lambda note, size: os.pread(memory, size, bias + int(note["vaddr"]))
    )
