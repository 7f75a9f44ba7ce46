# SPDX-License-Identifier: Apache-2.0
"""ELF files of compilers, compared with binutils, and damaged ones."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwatch.elf.elf import Elf, ElfError
from kwatch.procfs.mappings import read_mappings

SOURCE = """
#include <stdlib.h>
static int triple(int x) { return x * 3; }
void *operator_like_malloc(size_t size) { return malloc(size); }
static int choose(void) { return 1; }
static int (*resolve(void))(void) { return choose; }
int chosen(void) __attribute__((ifunc("resolve")));
int main(int argc, char **argv) { free(operator_like_malloc(triple(argc))); return chosen(); }
"""
NAMES = ["triple", "operator_like_malloc", "main", "chosen", "malloc", "alloc", "no_such_function"]


def compile_c(folder: Path, *options: str, source: str = SOURCE) -> str:
    (folder / "program.c").write_text(source)
    path = folder / "program"
    command = ["gcc", "-g", "-O0", *options, "-o", path, folder / "program.c"]
    subprocess.run(command, check=True)
    return str(path)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def functions_of_nm(path: str, *options: str) -> dict[str, tuple[int, int]]:
    found = {}
    for line in run("nm", "--defined-only", "-S", *options, path).splitlines():
        match = re.fullmatch(r"(\w+) (\w+) [tTwW] ([^@]+)(@@.+)?", line)
        if match:
            found[match[3]] = (int(match[1], 16), int(match[2], 16))
    return found


@pytest.mark.parametrize(
    "options",
    [["-pie", "-fPIE"], ["-no-pie"], ["-static"], ["-static-pie", "-fPIE"], ["-shared", "-fPIC"]],
)
def test_a_program_of_each_kind_agrees_with_nm(tmp_path: Path, options: list[str]) -> None:
    path = compile_c(tmp_path, *options)
    expected = functions_of_nm(path)

    with Elf.open(path) as elf:
        functions = elf.functions(NAMES)
        for function in functions.values():
            code = elf.read(function.vaddr, function.size)
            assert code == Path(path).read_bytes()[function.offset :][: function.size]
            assert elf.vaddr_of(function.offset) == function.vaddr

    assert {name: (f.vaddr, f.size) for name, f in functions.items()} == {
        name: expected[name] for name in NAMES if name in expected
    }
    assert {"triple", "operator_like_malloc", "main"} <= functions.keys()
    assert "chosen" not in functions


def test_what_a_program_needs_agrees_with_readelf(tmp_path: Path) -> None:
    path = compile_c(tmp_path, "-Wl,--build-id", "-Wl,--no-as-needed", "-lm")
    shown = run("readelf", "-nldW", path)

    elf = Elf.open(path)
    elf.close()

    assert elf.build_id is not None
    assert re.findall(r"Build ID: (\w+)", shown) == [elf.build_id.hex()]
    assert re.findall(r"interpreter: (\S+)\]", shown) == [elf.interpreter]
    assert re.findall(r"\(NEEDED\).*\[(.+)\]", shown) == elf.needed
    assert len(re.findall(r"^ +LOAD ", shown, re.MULTILINE)) == len(elf.segments)


def test_a_stripped_library_keeps_its_exports(tmp_path: Path) -> None:
    path = compile_c(tmp_path, "-shared", "-fPIC", "-s")

    with Elf.open(path) as elf:
        assert elf.functions(NAMES).keys() == {"operator_like_malloc", "main"}


def test_the_default_version_is_found(tmp_path: Path) -> None:
    source = """
    __asm__(".symver old, f@V1"); __asm__(".symver new, f@@V2");
    int old(void) { return 1; } int new(void) { return 2; }
    """
    (tmp_path / "map").write_text("V1 { global: f; local: *; }; V2 { global: f; } V1;")
    script = f"-Wl,--version-script={tmp_path / 'map'}"
    path = compile_c(tmp_path, "-shared", "-fPIC", script, source=source)

    with Elf.open(path) as elf:
        assert elf.functions(["f"])["f"].vaddr == functions_of_nm(path)["f"][0]


def test_the_allocator_of_libc_agrees_with_nm() -> None:
    libc = next(m.path for m in read_mappings(os.getpid()) if "/libc.so" in m.path)
    names = ["malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc"]
    expected = functions_of_nm(libc, "-D")

    with Elf.open(libc) as elf:
        found = elf.functions(names)

    assert {name: (f.vaddr, f.size) for name, f in found.items()} == {
        name: expected[name] for name in names
    }


def test_an_address_outside_the_file_is_refused(tmp_path: Path) -> None:
    with Elf.open(compile_c(tmp_path)) as elf:
        assert elf.offset_of(1 << 60) is None
        assert elf.vaddr_of(1 << 60) is None
        with pytest.raises(ElfError, match="nothing at address"):
            elf.read(1 << 60, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (b"#!/bin/sh\n" * 10, "not an ELF file"),
        (b"\x7fELF\x01\x01" + bytes(58), "not a 64-bit"),
        (b"\x7fELF\x02\x02" + bytes(58), "not a little-endian"),
        (b"\x7fELF\x02\x01" + bytes(58), "neither a program nor"),
    ],
)
def test_another_file_is_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ElfError, match=reason) as caught:
        Elf.open(str(path))
    assert caught.value.path == str(path)


def test_special_files_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(ElfError):
            Elf.open(str(path))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Path(compile_c(tmp_path_factory.mktemp("sample"))).read_bytes()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_raises_nothing_but_elf_error(
    tmp_path: Path, sample: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(sample[: data.draw(st.integers(0, len(sample)) | st.just(len(sample)))])
    headers = len(sample) - 64 * 40
    places = st.integers(0, 0x400) | st.integers(headers, len(sample) - 1)
    for at, value in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=8)).items():
        damaged[at : at + 1] = bytes([value])
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    try:
        with Elf.open(str(path)) as elf:
            elf.functions(NAMES)
            for segment in elf.segments:
                elf.read(segment.vaddr, 16)
    except ElfError:
        pass
