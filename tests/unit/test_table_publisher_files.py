# SPDX-License-Identifier: Apache-2.0
"""What is remembered of files without a table, and what is said of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kwatch.procfs.mappings import Mapping
from kwatch.tables import publisher as module
from kwatch.tables.publisher import TablePublisher

WITHOUT, WARNINGS = 20, 5


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def unwinder(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> Iterator[TablePublisher]:
    store = SimpleNamespace(
        forget=lambda pid: None,
        publish=lambda *told: True,
        close=lambda: None,
        rest=lambda: None,
        place=lambda rows, blocks: SimpleNamespace(blocks=0, block_count=1, size=len(rows)),
        add=lambda identity, code, placed: None,
    )
    for name in ("RowStore", "MappingStore", "FileStore"):
        monkeypatch.setattr(module, name, lambda *maps: store)
    monkeypatch.setattr(module, "GracePeriods", lambda: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(module, "_MAX_WITHOUT", WITHOUT)
    monkeypatch.setattr(module, "_MAX_WARNINGS", WARNINGS)
    names = ("row_shards", "spaces", "code_mappings", "file_tables", "stacks_sent")
    programs = SimpleNamespace(maps=dict.fromkeys(names))
    unwinder = TablePublisher(programs, lines.append)
    yield unwinder
    unwinder.close()


def mapping_of(path: Path, name: str = "") -> Mapping:
    inode, device = path.stat().st_ino, path.stat().st_dev
    return Mapping(0x1000, 0x2000, 0, name or str(path), inode, device, True, False)


def mapped_and_gone(unwinder: TablePublisher, mapping: Mapping) -> None:
    """A process maps the file, is published, and is traced no more."""
    process = SimpleNamespace(pid=os.getpid(), mm_id=1, epoch=0, unmaps=0, space=[mapping])
    unwinder.load(process.pid, process.space)
    unwinder.update(process)
    unwinder.publish()
    unwinder.forget(process)


def test_a_program_that_maps_a_fresh_file_for_each_closure(
    tmp_path: Path, unwinder: TablePublisher, lines: list[str]
) -> None:
    for number in range(100):
        path = tmp_path / f"closure{number}"
        path.write_bytes(b"no ELF file")
        mapped_and_gone(unwinder, mapping_of(path))
        mapped_and_gone(unwinder, mapping_of(path))
    assert len(unwinder._files) == WITHOUT
    assert len(lines) == WARNINGS
    assert lines[0].startswith(f"no unwind table for {tmp_path}/closure0: ")


def test_nothing_is_said_of_what_a_program_writes_into_memory(
    unwinder: TablePublisher, lines: list[str]
) -> None:
    with open(os.memfd_create("code"), "wb") as file:
        path = Path(f"/proc/self/fd/{file.fileno()}")
        unwinder._load(str(path), "/memfd:code")
    assert lines == []


def test_a_process_that_ends_while_its_file_is_opened(
    tmp_path: Path, unwinder: TablePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(sys.executable).resolve()
    mapping = mapping_of(program)
    ways = [str(tmp_path / "gone")]
    monkeypatch.setattr(module, "files_of", lambda pid, mapping: iter(ways))
    unwinder.load(os.getpid(), [mapping])
    assert not unwinder._files  # it is not known to have no table
    ways.append(str(program))
    unwinder.load(os.getpid(), [mapping])
    (file,) = unwinder._files.values()
    assert file.placed is not None
