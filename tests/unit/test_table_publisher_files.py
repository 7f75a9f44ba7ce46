# SPDX-License-Identifier: Apache-2.0
"""Files without an unwind table are remembered, and a few are reported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kwatch.kernel.grace_period import Retired
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.process import CodeState, Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping
from kwatch.tables import publisher as module
from kwatch.tables import table_loader
from kwatch.tables.publisher import TablePublisher
from kwatch.tables.stores import TableStores
from kwatch.tables.table_loader import TableLoader

WITHOUT, WARNINGS = 20, 5


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> Iterator[TablePublisher]:
    store = SimpleNamespace(
        forget=lambda pid: None,
        publish=lambda *told: True,
        close=lambda: None,
        rest=lambda: None,
        place=lambda rows, blocks: SimpleNamespace(blocks=0, block_count=1, size=len(rows)),
        add=lambda identity, code, placed: None,
    )
    periods = SimpleNamespace(close=lambda: None)
    stores = TableStores(store, store, store, None, periods, Retired(periods))
    monkeypatch.setattr(module, "_MAX_WITHOUT", WITHOUT)
    monkeypatch.setattr(table_loader, "_MAX_WARNINGS", WARNINGS)
    publisher = TablePublisher(stores, TableLoader(lines.append), lines.append)
    yield publisher
    publisher.close()


def mapping_of(path: Path, name: str = "") -> Mapping:
    inode, device = path.stat().st_ino, path.stat().st_dev
    return Mapping(0x1000, 0x2000, 0, name or str(path), inode, device, True)


def mapped_and_gone(publisher: TablePublisher, mapping: Mapping) -> None:
    """A process maps the file, is published and then forgotten."""
    code = CodeState(AddressSpace([mapping]), mm_id=1)
    process = Process(ProcessFacts(os.getpid(), 1.0, "app", ""), 1, Coverage(1), code=code)
    publisher.load(process.pid, process.code.space)
    publisher.update(process)
    publisher.publish()
    publisher.forget(process)


def test_a_program_that_maps_a_fresh_file_for_each_closure(
    tmp_path: Path, publisher: TablePublisher, lines: list[str]
) -> None:
    for number in range(100):
        path = tmp_path / f"closure{number}"
        path.write_bytes(b"no ELF file")
        mapped_and_gone(publisher, mapping_of(path))
        mapped_and_gone(publisher, mapping_of(path))
    assert len(publisher._files) == WITHOUT
    assert len(lines) == WARNINGS
    assert lines[0].startswith(f"no unwind table for {tmp_path}/closure0: ")


def test_nothing_is_said_of_what_a_program_writes_into_memory(
    publisher: TablePublisher, lines: list[str]
) -> None:
    with open(os.memfd_create("code"), "wb") as file:
        path = Path(f"/proc/self/fd/{file.fileno()}")
        publisher._loader.load(str(path), "/memfd:code")
    assert lines == []


def test_a_process_that_ends_while_its_file_is_opened(
    tmp_path: Path, publisher: TablePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(sys.executable).resolve()
    mapping = mapping_of(program)
    ways = [str(tmp_path / "gone")]
    monkeypatch.setattr(table_loader, "files_of", lambda pid, mapping: iter(ways))
    publisher.load(os.getpid(), [mapping])
    assert not publisher._files  # the file may have a table after all
    ways.append(str(program))
    publisher.load(os.getpid(), [mapping])
    (file,) = publisher._files.values()
    assert file.placed is not None
