# SPDX-License-Identifier: Apache-2.0
"""The table cache is used when it is intact, and its files are never trusted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwatch.elf.elf import Elf
from kwatch.system.cache_dir import default_dir
from kwatch.unwind import table_cache as module
from kwatch.unwind.table import build_table
from kwatch.unwind.table_cache import TableCache


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "a.c").write_text("int main(void) { return 0; }")
    path = folder / "program"
    subprocess.run(["gcc", "-Wl,--build-id", "-o", path, folder / "a.c"], check=True)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kwatch"


def get(folder, path, **options):
    with Elf.open(str(path)) as elf:
        return TableCache(folder, **options).get(elf)


def expected(path):
    with Elf.open(str(path)) as elf:
        return build_table(elf).rows.tolist()


def the_file(folder):
    (path,) = folder.iterdir()
    return path


@pytest.fixture
def builds(monkeypatch):
    """Counts the tables that are built."""
    made = []
    original = module.table_of
    monkeypatch.setattr(module, "table_of", lambda info: made.append(info) or original(info))
    return made


def test_a_table_is_built_once(folder, program, builds):
    first, second = get(folder, program), get(folder, program)
    assert len(builds) == 1
    assert first.rows.tolist() == second.rows.tolist() == expected(program)
    assert first.blocks.tolist() == second.blocks.tolist()
    assert (first.base, first.size, first.segments) == (second.base, second.size, second.segments)
    with Elf.open(str(program)) as elf:
        assert the_file(folder).name.startswith(elf.build_id.hex())
    assert the_file(folder).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_table_in_use_is_shared(folder, program):
    cache = TableCache(folder)
    with Elf.open(str(program)) as elf:
        table = cache.get(elf)
        assert cache.get(elf) is table


def test_a_table_without_a_build_id_is_not_kept(folder, program):
    bare = program.with_name("bare")
    subprocess.run(["objcopy", "-R", ".note.gnu.build-id", program, bare], check=True)
    assert get(folder, bare).rows.tolist() == expected(bare)
    assert not folder.exists()


def test_the_same_build_id_with_other_contents_has_its_own_table(folder, program):
    forged = program.with_name("forged")
    data = bytearray(program.read_bytes())
    with Elf.open(str(program)) as elf:
        eh_frame = elf.section(b".eh_frame", 1 << 20)[1]
    at = bytes(data).index(eh_frame)
    data[at + len(eh_frame) - 4 - 8] ^= 0x10
    forged.write_bytes(data)
    get(folder, forged)
    assert get(folder, program).rows.tolist() == expected(program)
    assert len(list(folder.iterdir())) == 2


def test_a_directory_that_others_can_write_is_not_used(folder, program, builds):
    get(folder, program)
    the_file(folder).chmod(0o620)
    get(folder, program)
    assert len(builds) == 2
    folder.chmod(0o777)
    get(folder, program)
    assert len(builds) == 3


@pytest.mark.needs("root")
def test_a_directory_of_another_user_is_not_used(folder, program, builds):
    get(folder, program)
    os.chown(the_file(folder), 1, 1)
    get(folder, program)
    os.chown(folder, 1, 1)
    get(folder, program)
    assert len(builds) == 3


def test_links_are_not_followed(folder, program, builds, tmp_path):
    get(folder, program)
    path = the_file(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    get(folder, program)
    assert len(builds) == 2
    folder.rename(tmp_path / "real")
    folder.symlink_to(tmp_path / "real")
    get(folder, program)
    assert len(builds) == 3


@pytest.mark.parametrize("where", ["/dev/null/kwatch", "/proc/kwatch"])
def test_a_cache_that_cannot_be_written_is_not_an_error(where, program):
    assert get(Path(where), program).rows.tolist() == expected(program)


def test_the_oldest_files_are_removed_first(folder, program):
    folder.mkdir(mode=0o700)
    for age in (30, 20, 10):
        path = folder / f"{age}.unwind"
        path.write_bytes(bytes(100_000))
        os.utime(path, (age and 1e9 - age, 1e9 - age))
    (folder / "not ours").write_bytes(bytes(100_000))
    get(folder, program, limit=250_000)
    names = {path.name for path in folder.iterdir()}
    assert {"20.unwind", "10.unwind", "not ours"} < names
    assert "30.unwind" not in names


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_file_is_built_again(tmp_path_factory, program, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    table = get(folder, program)
    path = the_file(folder)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] ^= data.draw(st.integers(1, 255))
    damaged = damaged[: data.draw(st.sampled_from([len(damaged), 0, 10, 100, len(damaged) - 1]))]
    path.write_bytes(damaged)
    assert get(folder, program).rows.tolist() == table.rows.tolist()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("change", ["unsorted", "no end", "unknown kind", "too far", "empty"])
def test_a_correct_checksum_does_not_make_a_valid_table(folder, program, change):
    with Elf.open(str(program)) as elf:
        info = module.read_unwind_info(elf)
    table = build_table_of(info)
    rows = table.rows.copy()
    if change == "unsorted":
        rows["pc"][2] = rows["pc"][1]
    elif change == "no end":
        rows = rows[:-1]
    elif change == "unknown kind":
        rows["rule"][1] = 9
    elif change == "too far":
        rows["pc"][-1] = info.size + 1
    else:
        rows = rows[:0]
    digest = info.digest()
    forged = type(table)(table.machine, table.base, table.size, table.segments, rows)
    assert module._decoded(module._encoded(forged, digest), info, digest) is None
    assert module._decoded(module._encoded(table, digest), info, digest) is not None


def build_table_of(info):
    return module.table_of(info)


def test_the_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_dir() == tmp_path / "kwatch"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_dir().parts[-2:] == (".cache", "kwatch")


@pytest.mark.needs("root")
def test_root_does_not_use_the_cache_of_another_user(monkeypatch, tmp_path):
    os.chown(tmp_path, 1, 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_dir() == Path("/root/.cache/kwatch")
