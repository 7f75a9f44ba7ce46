# SPDX-License-Identifier: Apache-2.0
"""Which tables are made for what processes map, without a kernel that takes them."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from types import SimpleNamespace

import pytest

from kwatch.elf.elf import ElfError
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.process import Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.tables import publisher as module
from kwatch.tables.publisher import TablePublisher
from kwatch.tables.row_store import Placed
from kwatch.unwind.table_cache import TableCache

VDSO_32 = Mapping(0xF7FC0000, 0xF7FC2000, 0, "[vdso]", 0, 0, True, False)


class Rows:
    """Tables that are in the kernel."""

    def __init__(self, shards):
        self.placed = 0

    def place(self, rows, blocks):
        self.placed += 1
        return Placed(self.placed, len(blocks) - 1, len(rows))

    def close(self):
        pass


class Code:
    """The published mappings, by process."""

    def __init__(self, *maps):
        self.published = {}

    def publish(self, pid, mm_id, epoch, unmaps, code):
        self.published[pid] = code
        return True


@pytest.fixture
def unwinder(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "RowStore", Rows)
    monkeypatch.setattr(module, "MappingStore", Code)
    monkeypatch.setattr(module, "GracePeriods", lambda: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(module, "FileStore", lambda tables: SimpleNamespace(add=lambda *_: None))
    monkeypatch.setattr(module, "TableCache", lambda: TableCache(tmp_path))
    made = TablePublisher(SimpleNamespace(maps=defaultdict(lambda: None)), pytest.fail)
    yield made
    made.close()


def vdso():
    return next(each for each in read_mappings(os.getpid()) if each.path == "[vdso]")


def blocks_of(unwinder, mapping, pid=7):
    """Of the table that the kernel is told of for a process with this mapping; 0: none."""
    process = Process(ProcessFacts(pid, 1.0, "app", ""), 1, Coverage(pid), mm_id=1)
    process.space = AddressSpace([mapping])
    unwinder.load(pid, [mapping])
    unwinder.update(process)
    unwinder.publish()
    (entry,) = unwinder._code.published[pid]
    return int(entry["block_count"])


def test_the_vdso_of_one_process_is_that_of_all(unwinder):
    assert blocks_of(unwinder, vdso(), pid=1 << 22) > 0  # of which nothing can be read
    assert blocks_of(unwinder, vdso()) > 0
    assert unwinder._rows.placed == 1


def test_that_of_a_32_bit_process_is_another(unwinder):
    assert blocks_of(unwinder, VDSO_32) == 0
    assert blocks_of(unwinder, vdso()) > 0
    assert blocks_of(unwinder, VDSO_32) == 0


def test_a_vdso_that_cannot_be_read_is_tried_again(unwinder, monkeypatch):
    def fail(image, name):
        raise ElfError(name, "not now")

    with monkeypatch.context() as broken:
        broken.setattr(module, "build_table_from_memory", fail)
        assert blocks_of(unwinder, vdso()) == 0
    assert blocks_of(unwinder, vdso()) > 0


def test_what_is_being_made_is_not_made_once_more(unwinder, monkeypatch):
    """Nor does the loop that reads the rings, which asks for it, wait for it."""
    library = next(m for m in read_mappings(os.getpid()) if m.executable and "libc.so" in m.path)
    may_end, load, loads = threading.Event(), unwinder._load, []

    def slow(path, shown):
        loads.append(shown)
        may_end.wait(10)
        return load(path, shown)

    monkeypatch.setattr(module, "_LARGE_FILE", 0)
    monkeypatch.setattr(unwinder, "_load", slow)
    unwinder.load(os.getpid(), [library])
    assert unwinder.is_loading
    assert unwinder.table_of(os.getpid(), library) is None
    may_end.set()
    unwinder.await_tables(10)
    assert not unwinder.is_loading
    assert unwinder.table_of(os.getpid(), library) is not None
    assert loads == [library.path]
