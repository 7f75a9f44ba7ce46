# SPDX-License-Identifier: Apache-2.0
"""Builds the heap profile of one process: every stack with its totals, and the mapped code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kwatch.aggregate import HeapAccount
from kwatch.elf.elf import Elf
from kwatch.errors import KwatchError
from kwatch.model.snapshot import HeapProfile, ProfileMapping, StackTotals
from kwatch.processes.process import Process
from kwatch.procfs.mappings import Mapping, file_of, file_version
from kwatch.report.stack_groups import StackGroups
from kwatch.stacks.lookup import alloc_stack
from kwatch.system.lru import Lru

_BUILD_IDS = 4096  # several times the libraries of a machine's services


class HeapProfiler:
    """Keeps build-ids, because the files may be gone later."""

    def __init__(self, groups: StackGroups) -> None:
        self._groups = groups
        self._build_ids: Lru[tuple[int, int], tuple[tuple[int, ...], str]] = Lru(_BUILD_IDS)

    def profile(self, process: Process, heap: HeapAccount) -> HeapProfile:
        """`heap` is the process's account, with totals by stack. The stacks have no names yet."""
        code = [self._code(process.pid, mapping) for mapping in process.code.space]
        return HeapProfile(tuple(self._stacks(process, heap)), tuple(code))

    def _stacks(self, process: Process, heap: HeapAccount) -> Iterable[StackTotals]:
        """Merges stacks of the same code, even if they end differently."""
        rows = heap.by_stack()
        ids = self._groups.of(process)([row.stack for row in rows])
        merged: dict[object, StackTotals] = {}
        for stack, row in zip(ids, rows, strict=True):
            key = _code_of(process, stack) or stack
            other = merged.get(key)
            merged[key] = replace(row, stack=stack) if other is None else _sum(other, row)
        return merged.values()

    def _code(self, pid: int, mapping: Mapping) -> ProfileMapping:
        build_id = self._build_id(pid, mapping)
        return ProfileMapping(mapping.start, mapping.end, mapping.offset, mapping.path, build_id)

    def _build_id(self, pid: int, mapping: Mapping) -> str:
        """In hexadecimal; empty if no file is mapped or it cannot be read."""
        if not mapping.inode:
            return ""
        key = mapping.device, mapping.inode
        version, build_id = self._build_ids.get(key) or ((), "")
        path = file_of(pid, mapping)
        try:
            if path and version != (version := file_version(path)):
                build_id = _build_id_of(path)
                self._build_ids.put(key, (version, build_id))
        except OSError:
            pass  # the file has just been removed
        return build_id


def _code_of(process: Process, stack: int) -> tuple[object, ...]:
    known = alloc_stack(process, stack)
    return tuple([call.place for call in known.addresses]) or known.frames


def _build_id_of(path: str) -> str:
    try:
        with Elf.open(path) as elf:
            return (elf.build_id or b"").hex()
    except KwatchError:
        return ""  # not an ELF file that kwatch can read


def _sum(one: StackTotals, other: StackTotals) -> StackTotals:
    return replace(
        one,
        alloc_blocks=one.alloc_blocks + other.alloc_blocks,
        alloc_bytes=one.alloc_bytes + other.alloc_bytes,
        live_blocks=one.live_blocks + other.live_blocks,
        live_bytes=one.live_bytes + other.live_bytes,
    )
