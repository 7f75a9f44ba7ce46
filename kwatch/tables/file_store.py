# SPDX-License-Identifier: Apache-2.0
"""The unwind tables of files that the BPF programs look up by file: bpf/mapped_file.h."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from kwatch.kernel import bpf
from kwatch.tables.row_store import Placed
from kwatch.wire.maps import FileKey, FileTable

_MINOR_BITS = 20  # include/linux/kdev_t.h
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file in its current version; `device` as os.stat() gives it."""

    device: int
    inode: int
    size: int
    changed_ns: int

    def key(self) -> bytes:
        seconds, rest = divmod(self.changed_ns, 1_000_000_000)
        device = os.major(self.device) << _MINOR_BITS | os.minor(self.device)
        return bytes(FileKey(self.inode, self.size, seconds & _MASK, rest, device))


class FileStore:
    """If a file cannot be added, Python publishes its mappings later: MappingStore."""

    def __init__(self, tables: bpf.Map) -> None:
        self._tables = tables

    def add(self, file: FileIdentity, code: tuple[int, int, int], placed: Placed) -> None:
        """Makes the programs find the table by the file.

        `code`: offset and size of the file's code, and the bias of a mapping minus the address that
        offset 0 would have in it.
        """
        offset, size, shift = code
        value = FileTable(offset, size, shift & _MASK, placed.blocks, placed.block_count)
        try:
            self._tables.set(file.key(), bytes(value))
        except OSError as error:
            if error.errno not in (errno.E2BIG, errno.ENOMEM):
                raise

    def remove(self, file: FileIdentity, placed: Placed) -> None:
        """Removes the file; programs that have found the table may still read it."""
        value = self._tables.get(file.key())
        if value is not None and FileTable.from_buffer_copy(value).blocks == placed.blocks:
            self._tables.delete(file.key())
