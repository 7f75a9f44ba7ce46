# SPDX-License-Identifier: Apache-2.0
"""Hands the mappings of code of the traced processes to the recorder, with the files' build-ids."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from kwatch.elf.elf import ElfError
from kwatch.errors import KwatchError
from kwatch.processes.process import Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, file_of, file_version, read_mappings
from kwatch.procfs.vdso import is_vdso
from kwatch.recording.escapes import escaped
from kwatch.recording.recorder import Recorder
from kwatch.symbols.mapped_files import MappedFiles
from kwatch.symbols.stack import Stack
from kwatch.system.lru import Lru
from kwatch.wire.events import Batch

_MAX_FILES = 16_384
_ROWS_AT_ONCE = 16_384  # rows in memory until they are handed on

_VSYSCALL = 1 << 63  # the address of [vsyscall] is above

_Row = dict[str, Any]
_File = tuple[int, int, str]


class RecordedMappings:
    """A CodeObserver. Each segment gets what is mapped when it begins, and what follows.

    `recorder` is asked for at the first rows: it exists by then.
    """

    def __init__(self, recorder: Callable[[], Recorder]) -> None:
        self._recorder = recorder
        self._build_ids = BuildIds()
        self._spaces: dict[int, _Space] = {}  # by pid
        self._new: list[_Row] = []

    def begin(self, pids: Iterable[int]) -> None:
        """Reads what processes have mapped that are traced from the start."""
        for pid in pids:
            self._read(pid)

    def on_batch(self, source: str, batch: Batch) -> None:
        """Takes no events."""

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        """Takes no stacks."""

    def on_code(self, process: Process, mapping: Mapping, time_ns: int, is_first: bool) -> None:
        if is_first:
            self._spaces.pop(process.pid, None)
        self._add(process.pid, mapping, time_ns)

    def on_fork(self, child: Process, time_ns: int) -> None:
        if (parent := self._spaces.get(child.parent)) is not None:
            self._spaces[child.pid] = space = _Space(parent.code.copy(), parent.build_ids.copy())
            self._tell(space.rows(child.pid, space.code, time_ns))

    def end(self, process: Process) -> None:
        self._spaces.pop(process.pid, None)

    def end_segment(self, pids: Iterable[int]) -> None:
        """Hands on what is new. The next segment begins with what is mapped then.

        `pids`: of the processes that have not ended; some may not have been read.
        """
        for pid in pids:
            if pid not in self._spaces:
                self._read(pid)
        self._flush()
        now = time.monotonic_ns()
        for pid, space in self._spaces.items():
            self._tell(space.rows(pid, space.code, now))

    def _read(self, pid: int) -> None:
        now = time.monotonic_ns()
        try:
            mappings = read_mappings(pid)
        except KwatchError:
            return  # a policy hides them: the table has no rows of it
        for mapping in mappings:
            if mapping.executable and mapping.start < _VSYSCALL:
                self._add(pid, mapping, now)

    def _add(self, pid: int, mapping: Mapping, time_ns: int) -> None:
        space = self._spaces.setdefault(pid, _Space(AddressSpace(), {}))
        space.code.add(mapping)
        space.build_ids[_file(mapping)] = self._build_ids.of(pid, mapping)
        self._tell(space.rows(pid, [mapping], time_ns))

    def _tell(self, rows: Iterable[_Row]) -> None:
        self._new += rows
        if len(self._new) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        rows, self._new = self._new, []
        if rows:
            self._recorder().add_mappings(rows)


class _Space(NamedTuple):
    """What a process has mapped, and the build-ids of the files."""

    code: AddressSpace
    build_ids: dict[_File, str | None]

    def rows(self, pid: int, mappings: Iterable[Mapping], time_ns: int) -> Iterator[_Row]:
        for each in mappings:
            yield {
                "ts_ns": time_ns,
                "pid": pid,
                "start": each.start,
                "stop": each.end,
                "file_offset": each.offset,
                "path": escaped(os.fsencode(each.path)),
                "build_id": self.build_ids.get(_file(each)),
            }


def _file(mapping: Mapping) -> _File:
    return mapping.device, mapping.inode, mapping.path


class BuildIds:
    """Of mapped files, in hexadecimal. A file is read once, as long as it does not change."""

    def __init__(self) -> None:
        self._files = MappedFiles()
        self._known: Lru[tuple[object, ...], str] = Lru(_MAX_FILES)

    def of(self, pid: int, mapping: Mapping) -> str | None:
        """None for a file without one, or that cannot be read, and for memory without a file."""
        key = _version(pid, mapping)
        if key is None:
            return None
        found = self._known.get(key)
        if found is None:
            found = self._read(pid, mapping)
            self._known.put(key, found)
        return found or None

    def _read(self, pid: int, mapping: Mapping) -> str:
        try:
            elf = self._files.open(pid, mapping)
        except ElfError:
            return ""
        if elf is None:
            return ""
        with elf:
            return (elf.build_id or b"").hex()


def _version(pid: int, mapping: Mapping) -> tuple[object, ...] | None:
    """Equal for the same contents; None without a file."""
    if is_vdso(mapping):
        return (mapping.path,)
    try:
        path = file_of(pid, mapping)
        return (mapping.device, mapping.inode, *file_version(path)) if path else None
    except OSError:
        return None
