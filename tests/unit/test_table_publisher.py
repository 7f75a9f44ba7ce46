# SPDX-License-Identifier: Apache-2.0
"""Which unwind tables are built for the mappings of processes; the BPF maps are stand-ins."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from kwatch.elf.elf import ElfError
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.process import CodeState, Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.tables import publisher as module
from kwatch.tables import table_loader
from kwatch.tables.publisher import TablePublisher
from kwatch.tables.row_store import Placed
from kwatch.tables.stores import TableStores
from kwatch.tables.table_loader import TableLoader
from kwatch.unwind.table_cache import TableCache

VDSO_32 = Mapping(0xF7FC0000, 0xF7FC2000, 0, "[vdso]", 0, 0, True)


class Rows:
    """Stands for the BPF map of table rows."""

    def __init__(self):
        self.placed = 0

    def place(self, rows, blocks):
        self.placed += 1
        return Placed(self.placed, len(blocks) - 1, len(rows))

    def close(self):
        pass


class Mappings:
    """Stands for the BPF map of published mappings, by process."""

    def __init__(self):
        self.published = {}

    def publish(self, pid, mm_id, epoch, unmaps, code):
        self.published[pid] = code
        return True


@pytest.fixture
def publisher(tmp_path):
    stores = TableStores(
        rows=Rows(),
        mappings=Mappings(),
        files=SimpleNamespace(add=lambda *_: None),
        stacks_sent=None,
        periods=SimpleNamespace(close=lambda: None),
        retired=None,
    )
    made = TablePublisher(stores, TableLoader(pytest.fail, TableCache(tmp_path)), pytest.fail)
    yield made
    made.close()


def vdso():
    return next(each for each in read_mappings(os.getpid()) if each.path == "[vdso]")


def blocks_of(publisher, mapping, pid=7):
    """Blocks of the table that is published for a process with this mapping; 0: no table."""
    process = Process(ProcessFacts(pid, 1.0, "app", ""), 1, Coverage(pid), code=CodeState(mm_id=1))
    process.code.space = AddressSpace([mapping])
    publisher.load(pid, [mapping])
    publisher.update(process)
    publisher.publish()
    (entry,) = publisher._stores.mappings.published[pid]
    return int(entry["block_count"])


def test_the_vdso_of_one_process_is_that_of_all(publisher):
    assert blocks_of(publisher, vdso(), pid=1 << 22) > 0  # there is no such process
    assert blocks_of(publisher, vdso()) > 0
    assert publisher._stores.rows.placed == 1


def test_that_of_a_32_bit_process_is_another(publisher):
    assert blocks_of(publisher, VDSO_32) == 0
    assert blocks_of(publisher, vdso()) > 0
    assert blocks_of(publisher, VDSO_32) == 0


def test_a_vdso_that_cannot_be_read_is_tried_again(publisher, monkeypatch):
    def fail(image, name):
        raise ElfError(name, "not now")

    with monkeypatch.context() as broken:
        broken.setattr(table_loader, "build_table_from_memory", fail)
        assert blocks_of(publisher, vdso()) == 0
    assert blocks_of(publisher, vdso()) > 0


def test_what_is_being_made_is_not_made_once_more(publisher, monkeypatch):
    """The event loop, which asks for the table, does not wait for it."""
    library = next(m for m in read_mappings(os.getpid()) if m.executable and "libc.so" in m.path)
    may_end, load, loads = threading.Event(), publisher._loader.load, []

    def slow(path, shown):
        loads.append(shown)
        may_end.wait(10)
        return load(path, shown)

    monkeypatch.setattr(module, "_LARGE_FILE", 0)
    monkeypatch.setattr(publisher._loader, "load", slow)
    publisher.load(os.getpid(), [library])
    assert publisher.is_loading
    assert publisher.table_of(os.getpid(), library) is None
    may_end.set()
    publisher.await_tables(10)
    assert not publisher.is_loading
    assert publisher.table_of(os.getpid(), library) is not None
    assert loads == [library.path]
