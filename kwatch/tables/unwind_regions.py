# SPDX-License-Identifier: Apache-2.0
"""The code of a process: its unwind tables, and where a return address may point."""

from __future__ import annotations

import os
import stat

from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, file_of
from kwatch.tables.publisher import TablePublisher
from kwatch.unwind.call_sites import MAX_LENGTH, follows_call
from kwatch.unwind.machines import Machine
from kwatch.unwind.walk import Region, Regions
from kwatch.wire.unwind_rows import RowKind, kind_of

_WITHOUT_A_CALL = (RowKind.SIGNAL, RowKind.END)


class ProcessRegions(Regions):
    """Looks up tables only where a stack leads."""

    def __init__(self, tables: TablePublisher, pid: int, space: AddressSpace) -> None:
        super().__init__([])
        self._tables = tables
        self._pid = pid
        self._space = space

    def find(self, address: int) -> Region | None:
        mapping = self._space.find(address)
        if mapping is None:
            return None
        table, bias = self._tables.table_of(self._pid, mapping) or (None, 0)
        return Region(mapping.start, mapping.end, bias, table)

    def may_return_to(self, machine: Machine, address: int) -> bool:
        """False if the file shows that no call precedes the address, although one should.

        Signal handlers and the outermost functions return to code that did not call them.
        """
        mapping = self._space.find(address - 1)
        before = _before(self._pid, mapping, address) if mapping is not None else b""
        return not before or follows_call(machine, before) or self._needs_no_call(address - 1)

    def _needs_no_call(self, address: int) -> bool:
        region = self.find(address)
        if region is None or region.table is None:
            return False
        return kind_of(region.table.rule_at(address - region.bias)) in _WITHOUT_A_CALL


def _before(pid: int, mapping: Mapping, address: int) -> bytes:
    """The bytes of the file before an address of the mapping; empty if they cannot be read."""
    end = address - mapping.start + mapping.offset
    start = max(end - MAX_LENGTH, 0)
    try:
        fd = os.open(file_of(pid, mapping), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)  # reading a device may have effects
        return os.pread(fd, end - start, start) if is_file else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
