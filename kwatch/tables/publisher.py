# SPDX-License-Identifier: Apache-2.0
"""Publishes the unwind tables of the code that processes run to the BPF programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kwatch.processes.process import Process
from kwatch.procfs.mappings import Mapping, file_of, file_version, served_file
from kwatch.procfs.vdso import VDSO, is_vdso
from kwatch.system.lru import Lru
from kwatch.tables.file_store import FileIdentity
from kwatch.tables.mapping_store import CODE_MAPPING, Code
from kwatch.tables.row_store import Placed
from kwatch.tables.stores import TableStores
from kwatch.tables.table_loader import TableLoader
from kwatch.unwind.table import Table
from kwatch.wire.maps import MAX_MAPPINGS

_LARGE_FILE = 24 << 20  # bytes; the table of a larger file is built in the background
_KEPT_TABLES = 16  # in memory, to finish stacks
_MAX_UNUSED = 32 << 20  # bytes of tables in the kernel that no process uses now
_MAX_WITHOUT = 1024  # remembered files without a table
_MASK = (1 << 64) - 1

_Key = tuple[int, int, str]


@dataclass(slots=True)
class _File:
    """A file whose table has been requested. `shape` is the table without its rows.

    `placed` is None if the table is not in the kernel, or there is no table. `refused`: the value
    of `_freed` when there was no room for the table.
    """

    version: tuple[int, ...]
    shape: Table | None = None
    placed: Placed | None = None
    users: int = 0
    refused: int | None = None


class TablePublisher:
    """Serves all processes; processes that map the same file share its table.

    `complain` is called with a message if there is no room for the mappings of a process.
    """

    def __init__(
        self, stores: TableStores, loader: TableLoader, complain: Callable[[str], None]
    ) -> None:
        self._stores = stores
        self._loader = loader
        self._complain = complain
        self._files: dict[_Key, _File] = {}  # the most recently used file comes last
        self._keys: dict[int, list[_Key]] = {}
        self._changed: dict[int, Process] = {}
        self._tables: Lru[_Key, Table] = Lru(_KEPT_TABLES)
        self._freed = 0  # tables whose room has been freed for others
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kwatch-tables")
        self._coming: dict[_Key, Future[Table | None]] = {}
        self._has_come = False  # a table from the background is ready but not published

    @property
    def kernel_bytes(self) -> int:
        """Kernel memory that the tables use."""
        return self._stores.rows.kernel_bytes

    def load(self, pid: int, mappings: Iterable[Mapping]) -> None:
        """Builds the tables of files that a process maps. The programs find them by file."""
        for mapping in sorted(filter(_has_code, mappings), key=partial(_size, pid)):
            self._need(pid, mapping)

    def update(self, process: Process) -> None:
        """The process has new mappings or a new address space; `publish` sends them."""
        self._changed[process.pid] = process

    def publish(self) -> None:
        """Publishes the mappings of all changed processes to the programs."""
        changed, self._changed = self._changed, {}
        for process in changed.values():
            if process.code.mm_id:
                self._publish(process)

    def prepare(self, paths: Iterable[str]) -> None:
        """Builds the tables of files that will be mapped."""
        for path in map(os.path.realpath, paths):
            status = os.stat(path)
            key = status.st_dev, status.st_ino, path
            if key not in self._files:
                self._files[key] = _File(version=_version(path))
                self._came(key, partial(self._loader.load, path, path))

    def forget(self, process: Process) -> None:
        """Removes a process that is no longer traced."""
        self._changed.pop(process.pid, None)
        self._stores.mappings.forget(process.pid)
        self._use(process.pid, [])

    def resend(self, process: Process, stacks: Iterable[int]) -> None:
        """Makes the programs send the frames of these stacks again when they next occur."""
        self._stores.forget_sent(stacks)
        self._stores.mappings.renew(process.pid)

    def batch_done(self, processes: Iterable[Process]) -> None:
        """Call this after each batch, with all processes."""
        freed = self._stores.reclaim()
        self._freed += freed
        self._collect()
        has_come, self._has_come = self._has_come, False
        waits = freed > 0 and any(file.refused is not None for file in self._files.values())
        for process in processes if has_come or waits else ():
            self.load(process.pid, process.code.space)
            self.update(process)
        self.publish()

    def table_of(self, pid: int, mapping: Mapping) -> tuple[Table, int] | None:
        """The table of a mapping's file, and the bias of the mapping.

        None if there is no table, or if it is still being built in the background.
        """
        key = _key(mapping)
        file = self._files.get(key)
        if not _has_code(mapping) or (file is not None and file.shape is None):
            return None
        table = self._tables.get(key) or self._reload(pid, mapping)
        bias = table.bias(mapping.start, mapping.end, mapping.offset) if table else None
        return None if table is None or bias is None else (table, bias)

    @property
    def is_loading(self) -> bool:
        """Whether tables are being built in the background."""
        return bool(self._coming)

    def await_tables(self, seconds: float) -> None:
        """Waits at most `seconds` for the tables that are being built."""
        wait(self._coming.values(), seconds)
        self._collect()

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        self._stores.close()

    def _need(self, pid: int, mapping: Mapping) -> None:
        key = _key(mapping)
        path = file_of(pid, mapping)
        file = self._files.pop(key, None)
        if path and file is not None and not file.users and file.version != _version(path):
            self._give_up(key, file)  # the file has changed and nothing uses the old version
            self._coming.pop(key, None)
            if self._tables.get(key) is not None:
                self._tables.remove(key)
            file = None
        if file is not None:
            self._files[key] = file
            if file.refused is not None and file.refused != self._freed:
                self._place(key, self._reload(pid, mapping))
            return
        if not path and mapping.path != VDSO:
            return  # it cannot be opened now, but perhaps through another process
        self._files[key] = _File(version=_version(path))
        is_large = _size(pid, mapping) > _LARGE_FILE
        table = self._loader.find(path) if is_large else None
        if table is None and is_large:
            self._coming[key] = self._worker.submit(self._loader.load_mapped, pid, mapping)
        elif table is None:
            self._came(key, partial(self._loader.load_mapped, pid, mapping))
        else:
            self._place(key, table)

    def _reload(self, pid: int, mapping: Mapping) -> Table | None:
        try:
            table = self._loader.load_mapped(pid, mapping)
        except FileNotFoundError:
            return None
        if table is not None:
            self._tables.put(_key(mapping), table)
        return table

    def _collect(self) -> None:
        """Takes the tables that have been built in the background."""
        for key in [key for key, future in self._coming.items() if future.done()]:
            self._came(key, self._coming.pop(key).result)
            self._has_come = True

    def _came(self, key: _Key, load: Callable[[], Table | None]) -> None:
        """Places a loaded table. A file that is gone may be found through the next process."""
        try:
            self._place(key, load())
        except FileNotFoundError:
            self._files.pop(key, None)

    def _place(self, key: _Key, table: Table | None) -> None:
        """Uploads a table to the kernel, if there is one."""
        file = self._files.get(key)
        if table is None or file is None:
            return
        self._tables.put(key, table)
        file.shape = replace(table, rows=table.rows[:0])
        try:
            file.placed = self._stores.rows.place(table.rows, table.blocks)
            reason = "no room for more tables"
        except OSError as error:
            reason = str(error.strerror)
        if file.placed is not None:
            file.refused = None
            code = file.shape.in_file
            if file.version and code is not None:
                self._stores.files.add(_identity(key, file), code, file.placed)
            return
        if file.refused is None:
            self._loader.warn(key[2], f"the unwind table of {key[2]} was not loaded: {reason}")
        file.refused = self._freed
        self._limit_unused(0)

    def _publish(self, process: Process) -> None:
        keys, entries = [], []
        for mapping in process.code.space:
            key = _key(mapping)
            file = self._files.get(key) if _has_code(mapping) else None
            if key in self._coming:
                continue  # until it is ready, stacks through this code are copied
            bias = None
            if file is not None and file.shape is not None and file.placed is not None:
                bias = file.shape.bias(mapping.start, mapping.end, mapping.offset)
            if file is None or file.placed is None or bias is None:
                entries.append((mapping.start, mapping.end, 0, 0, 0))  # known to have none
                continue
            place = file.placed.blocks, file.placed.block_count
            entries.append((mapping.start, mapping.end, bias & _MASK, *place))
            keys.append(key)
        code: Code = np.array(entries[:MAX_MAPPINGS], CODE_MAPPING)
        if self._stores.mappings.publish(
            process.pid, process.code.mm_id, process.code.epoch, process.code.unmaps, code
        ):
            self._use(process.pid, keys)
        else:
            self._complain(
                f"no room for the mappings of process {process.pid}: its stacks are incomplete"
            )

    def _use(self, pid: int, keys: list[_Key]) -> None:
        before = self._keys.pop(pid, [])
        if keys:
            self._keys[pid] = keys
        for key, change in (Counter(keys) - Counter(before)).items():
            self._files[key].users += change
        for key, change in (Counter(before) - Counter(keys)).items():
            self._files[key].users -= change
        self._limit_unused()

    def _limit_unused(self, most: int = _MAX_UNUSED) -> None:
        unused = [(k, f) for k, f in self._files.items() if not f.users and f.placed is not None]
        total = sum(file.placed.size * 8 for _, file in unused if file.placed is not None)
        for key, file in unused:
            if total <= most or file.placed is None:
                break
            total -= file.placed.size * 8
            self._give_up(key, file)
            del self._files[key]
        without = [k for k, f in self._files.items() if f.placed is None and k not in self._coming]
        for key in without[:-_MAX_WITHOUT]:
            del self._files[key]

    def _give_up(self, key: _Key, file: _File) -> None:
        if file.placed is not None:
            if file.version:
                self._stores.files.remove(_identity(key, file), file.placed)
            self._stores.retired.add(file.placed)


def _version(path: str) -> tuple[int, ...]:
    try:
        return file_version(path)
    except OSError:
        return ()  # no file, or the vdso


def _identity(key: _Key, file: _File) -> FileIdentity:
    size, changed_ns, _ = file.version
    return FileIdentity(key[0], key[1], size, changed_ns)


def _key(mapping: Mapping) -> _Key:
    return mapping.device, mapping.inode, mapping.path


def _has_code(mapping: Mapping) -> bool:
    """Whether a mapping may have a table; the vdso of a 32-bit process has none."""
    return bool(mapping.inode) or is_vdso(mapping)


def _size(pid: int, mapping: Mapping) -> int:
    """The size of a mapping's file; large files are loaded last."""
    if served_file(pid, mapping) is not None:
        return mapping.end - mapping.start  # its file system may not answer
    try:
        return os.stat(mapping.path).st_size if mapping.inode else 0
    except (OSError, ValueError):
        return mapping.end - mapping.start  # in another mount namespace
