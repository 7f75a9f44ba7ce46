# SPDX-License-Identifier: Apache-2.0
"""Loads unwind tables from the cache, from the files that processes map, and from the vdso."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from kwatch.elf.elf import Elf
from kwatch.elf.reader import Elf32Error
from kwatch.errors import KwatchError
from kwatch.procfs.mappings import Mapping, files_of
from kwatch.procfs.vdso import VDSO, read_vdso
from kwatch.unwind.table import Table, build_table_from_memory
from kwatch.unwind.table_cache import TableCache

_MAX_WARNINGS = 256


class TableLoader:
    """`warn` is called with a message, once for each file without a table.

    `cache` keeps the tables of files between runs.
    """

    def __init__(self, warn: Callable[[str], None], cache: TableCache | None = None) -> None:
        self._warn = warn
        self._cache = cache or TableCache()
        self._warned: set[str] = set()

    def find(self, path: str) -> Table | None:
        """The table of a file if it is cached."""
        try:
            with Elf.open(path) as elf:
                return self._cache.find(elf)
        except KwatchError:
            return None  # `load` reports the reason

    def load(self, path: str, shown: str) -> Table | None:
        """None if the file has no table. Raises FileNotFoundError if the path is gone."""
        try:
            with Elf.open(path) as elf:
                return self._cache.get(elf)
        except Elf32Error:
            return None  # the report says that 32-bit programs have no stacks
        except KwatchError as error:
            if not os.path.exists(path):
                raise FileNotFoundError(path) from error
            self.warn(shown, f"no unwind table for {shown}: {error}")
            return None

    def load_mapped(self, pid: int, mapping: Mapping) -> Table | None:
        """The table of a mapped file; None if it has none.

        Raises FileNotFoundError if no path leads to the file now.
        """
        if mapping.path == VDSO:
            return _vdso_table()
        for path in files_of(pid, mapping):
            with contextlib.suppress(FileNotFoundError):  # the process has just ended
                return self.load(path, mapping.path)
        raise FileNotFoundError(mapping.path)

    def warn(self, shown: str, line: str) -> None:
        """Warns once for each file, and not about files that programs write for themselves."""
        is_known = shown in self._warned or len(self._warned) >= _MAX_WARNINGS
        if not is_known and not shown.startswith("/memfd:"):
            self._warned.add(shown)
            self._warn(line)


def _vdso_table() -> Table:
    """Raises FileNotFoundError if the vdso cannot be read, or has no table."""
    image = read_vdso()
    if image is None:
        raise FileNotFoundError(VDSO)
    try:
        return build_table_from_memory(image, VDSO)
    except KwatchError as error:
        raise FileNotFoundError(VDSO) from error
