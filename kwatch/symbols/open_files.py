# SPDX-License-Identifier: Apache-2.0
"""The mapped files of processes, kept open for names that are asked for later."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue

from kwatch.elf.elf import Elf, ElfError
from kwatch.elf.identities import Identities
from kwatch.elf.reader import Elf32Error
from kwatch.procfs.mappings import Mapping, is_foreign
from kwatch.procfs.mounts import may_path_hang
from kwatch.symbols.mapped_files import MappedFiles
from kwatch.system.lru import Lru

MAX_FILES = 1024
_DEBUG_FILES = "/usr/lib/debug"
_SHARE = 4  # at most a quarter of the file descriptors

#: Device, inode and path.
_Key = tuple[int, int, str]
_numbers = count(1)


@dataclass(slots=True)
class OpenFile:
    """A mapped file. `number` is unique, also among files that have had the same path.

    `elf` is None if kwatch cannot read the file as ELF. `root`: the root directory of a process in
    another mount namespace, else empty. `since_ns`: when kwatch found the file rewritten, 0 if it
    has not. `is_readable`: the symbol reader has not failed to read it. `has_debug_file`: its debug
    file has been searched for. `identities`: where it calls functions that return their argument.
    """

    path: str
    elf: Elf | None
    root: str = ""
    since_ns: int = 0
    is_readable: bool = True
    has_debug_file: bool = False
    number: int = field(default_factory=lambda: next(_numbers))
    version: tuple[int, ...] = ()
    identities: Container[int] = frozenset()

    def __post_init__(self) -> None:
        self.version = self._version()
        if self.elf is not None:
            self.identities = Identities(self.elf, keeps_symbols=False)

    def is_current(self) -> bool:
        """Whether the file has not been written since it was opened."""
        return self.version == self._version()

    def is_same_build(self, other: OpenFile) -> bool:
        ids = {file.elf.build_id if file.elf is not None else None for file in (self, other)}
        return len(ids) == 1 and None not in ids

    def _version(self) -> tuple[int, ...]:
        if self.elf is None:
            return ()
        status = os.fstat(self.elf.fileno())
        return status.st_size, status.st_mtime_ns


class OpenFiles:
    """At most `max_files`; the least recently used are closed.

    Any thread may call `get`. `on_error` gets the path of a file that cannot be read, and why.
    """

    def __init__(self, max_files: int, on_error: Callable[[str, str], None]) -> None:
        max_files = min(max_files, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
        self._on_error = on_error
        self._mapped_files = MappedFiles()
        self._lock = threading.Lock()
        self._files: Lru[_Key, OpenFile] = Lru(max_files, on_evict=self._retire)
        self._retired: SimpleQueue[OpenFile] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, pid: int, mapping: Mapping) -> OpenFile | None:
        """None if the file cannot be found now. It may be found later, by another process."""
        key = mapping.device, mapping.inode, mapping.path
        with self._lock:
            file = self._files.get(key)
            if file is not None and file.is_current():
                return file
            fresh = self._open(pid, mapping)
            if file is not None:
                self._retire(self._files.remove(key))
            if fresh is not None:
                if file is not None and not file.is_same_build(fresh):
                    fresh.since_ns = time.monotonic_ns()
                self._files.put(key, fresh)
            return fresh

    @property
    def has_retired(self) -> bool:
        return not self._retired.empty()

    def retired(self) -> Iterator[OpenFile]:
        """Files that are no longer needed; the thread that uses them closes them."""
        while not self._retired.empty():
            yield self._retired.get()

    def retire_all(self) -> None:
        for file in self._files.drain():
            self._retire(file)

    def _retire(self, file: OpenFile) -> None:
        self._retired.put(file)

    def _open(self, pid: int, mapping: Mapping) -> OpenFile | None:
        try:
            elf = self._mapped_files.open(pid, mapping)
        except Elf32Error:
            return OpenFile(
                mapping.path, None
            )  # a 32-bit process: the report says that it has no stacks
        except ElfError as error:
            if not mapping.path.startswith("/memfd:"):
                self._on_error(mapping.path, f"{mapping.path}: {error.reason}")
            return OpenFile(mapping.path, None)
        return None if elf is None else OpenFile(mapping.path, elf, _foreign_root(pid))


def _foreign_root(pid: int) -> str:
    is_reachable = is_foreign(pid) and not may_path_hang(pid, _DEBUG_FILES)
    return f"/proc/{pid}/root" if is_reachable else ""
