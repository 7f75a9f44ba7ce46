# SPDX-License-Identifier: Apache-2.0
"""A cache of unwind tables on disk, in files named by build-id.

The name also contains a digest of all that the table is made from, so that a file with a false
build-id cannot get or replace the table of another file. Every table that is read is checked in
full, and a damaged one is built again. A cache that cannot be read or written is not an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from kwatch.elf.elf import Elf
from kwatch.system.cache_dir import CacheDir, default_dir
from kwatch.unwind.cfi_programs import MAX_ROWS
from kwatch.unwind.table import Table, sound_table, table_of
from kwatch.unwind.unwind_info import UnwindInfo, read_unwind_info
from kwatch.wire.unwind_rows import ROW

_MAGIC = b"kwatchU\0"
_VERSION = 3  # changes with the format of rows, and with the rows made from the same .eh_frame
_HEADER = struct.Struct("<8sIIQ16s16s")  # magic, version, rows, base, digest, checksum
_SUFFIX = ".unwind"
_DEFAULT_LIMIT = 256 << 20
_MAX_SIZE = _HEADER.size + MAX_ROWS * ROW.itemsize + 1


class TableCache:
    """Shares tables that are in use, and keeps those of files with a build-id on disk.

    `limit` is the maximum size of all files in bytes; the least recently used are removed first.
    """

    def __init__(self, folder: Path | None = None, limit: int = _DEFAULT_LIMIT) -> None:
        self._folder = default_dir() if folder is None else folder
        self._limit = limit
        self._in_use: WeakValueDictionary[bytes, Table] = WeakValueDictionary()

    def get(self, elf: Elf) -> Table:
        """The table of an open ELF file. Raises ElfError, as `build_table` does."""
        info = read_unwind_info(elf)
        digest = info.digest()
        table = self._found(info, digest)
        if table is None:
            table = self._in_use[digest] = self._build(_name(info, digest), info, digest)
        return table

    def find(self, elf: Elf) -> Table | None:
        """The table if it has been built before, else None. Takes little time."""
        info = read_unwind_info(elf)
        return self._found(info, info.digest())

    def _found(self, info: UnwindInfo, digest: bytes) -> Table | None:
        table = self._in_use.get(digest) or self._load(_name(info, digest), info, digest)
        if table is not None:
            self._in_use[digest] = table
        return table

    def _load(self, name: str, info: UnwindInfo, digest: bytes) -> Table | None:
        if not name:
            return None
        with contextlib.suppress(OSError), CacheDir(self._folder) as folder:
            table = _decoded(folder.read(name, _MAX_SIZE), info, digest)
            if table is not None:
                folder.touch(name)
                return table
        return None

    def _build(self, name: str, info: UnwindInfo, digest: bytes) -> Table:
        table = table_of(info)
        if name:
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with CacheDir(self._folder) as folder:
                    folder.write(name, _encoded(table, digest))
                    folder.shrink(_SUFFIX, self._limit)
        return table


def _name(info: UnwindInfo, digest: bytes) -> str:
    """Empty if the file has no build-id; its table is not kept."""
    if not info.build_id:
        return ""
    return f"{info.build_id[:32].hex()}-{digest.hex()}{_SUFFIX}"


def _checksum(rows: bytes) -> bytes:
    return hashlib.blake2b(rows, digest_size=16).digest()


def _encoded(table: Table, digest: bytes) -> bytes:
    data = table.rows.tobytes()
    numbers = len(table.rows), table.base
    return _HEADER.pack(_MAGIC, _VERSION, *numbers, digest, _checksum(data)) + data


def _decoded(data: bytes, info: UnwindInfo, digest: bytes) -> Table | None:
    """The table in the contents of a file, if it is undamaged and made from this information."""
    if len(data) < _HEADER.size:
        return None
    magic, version, count, base, of, checksum = _HEADER.unpack_from(data)
    if (magic, version, of) != (_MAGIC, _VERSION, digest):
        return None
    if (
        len(data) != _HEADER.size + count * ROW.itemsize
        or _checksum(data[_HEADER.size :]) != checksum
    ):
        return None
    rows = np.frombuffer(data, dtype=ROW, offset=_HEADER.size)
    return sound_table(info, base, rows)
