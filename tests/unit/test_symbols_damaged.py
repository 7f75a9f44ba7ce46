# SPDX-License-Identifier: Apache-2.0
"""Damaged files may kill the symbol reader but not kwatch, and each causes one warning."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.compiled import CHAIN, ask, call_in, compile_c, located, run, waiting
from harness.naming import frames_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwatch.elf.layout import MAGIC
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import read_mappings
from kwatch.symbols.demangle.demangle import MAX_LENGTH, demangle
from kwatch.symbols.reader import Damaged, NotStarted, Reader
from kwatch.symbols.symbolizer import Symbolizer

MEMORY_LIMIT = 200 << 20


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    path = compile_c(tmp_path_factory.mktemp("sample") / "program")
    return path, call_in(path)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.stop()


def debug_sections(path: Path) -> list[tuple[int, int]]:
    """(offset, size) of each section that libdw reads."""
    lines = run("readelf", "-SW", path).replace("[ ", "[").splitlines()
    words = [line.split() for line in lines if "PROGBITS" in line or "TAB" in line]
    names = (".debug", ".eh_frame", ".symtab", ".strtab")
    return [(int(w[4], 16), int(w[5], 16)) for w in words if w[1].startswith(names)]


def read_damaged(reader: Reader, data: bytes, address: int) -> None:
    """Any answer will do, if it comes in time."""
    fd = os.memfd_create("damaged")
    os.write(fd, data)
    try:
        reader.locate(read_damaged.number, fd, "damaged", "", [address, address + 16, 0])
    except Damaged:
        assert reader.starts < 50
    finally:
        reader.forget(read_damaged.number)
        read_damaged.number += 1
        os.close(fd)
    assert reader.resident < MEMORY_LIMIT


read_damaged.number = 1
EDGES = st.sampled_from([b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4)])
BYTES = st.integers(0, 255).map(lambda value: bytes([value])) | EDGES


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_debug_information(
    reader: Reader, sample: tuple[Path, int], data: st.DataObject
) -> None:
    path, call = sample
    content = bytearray(path.read_bytes())
    section, size = data.draw(st.sampled_from(debug_sections_of(path)))
    changes = st.dictionaries(st.integers(0, size - 1), BYTES, min_size=1, max_size=12)
    for at, value in data.draw(changes).items():
        content[section + at : section + at + len(value)] = value
    read_damaged(reader, bytes(content), call)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_headers_and_truncated_files(
    reader: Reader, sample: tuple[Path, int], data: st.DataObject
) -> None:
    path, call = sample
    content = bytearray(path.read_bytes())
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    headers = len(content) - 64 * 40
    places = st.integers(0, 0x400) | st.integers(headers, len(content) - 1)
    for at, value in data.draw(st.dictionaries(places, BYTES, max_size=8)).items():
        content[at : at + len(value)] = value
    read_damaged(reader, bytes(content[:end]), call)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(noise=st.binary(max_size=2000))
def test_noise(reader: Reader, noise: bytes) -> None:
    read_damaged(reader, noise, 0x1000)
    read_damaged(reader, MAGIC + b"\2\1\1" + noise, 0x1000)


_sections: dict[Path, list[tuple[int, int]]] = {}


def debug_sections_of(path: Path) -> list[tuple[int, int]]:
    if path not in _sections:
        _sections[path] = debug_sections(path)
    return _sections[path]


def test_a_killed_reader_is_started_again(sample: tuple[Path, int]) -> None:
    path, call = sample
    reader = Reader()
    assert [name for name, _, _ in located(path, call, reader=reader)] == CHAIN
    os.kill(reader.pid, signal.SIGKILL)
    assert [name for name, _, _ in located(path, call, reader=reader)] == CHAIN
    assert reader.starts == 2
    reader.stop()


def test_a_reader_that_does_not_answer_is_abandoned(sample: tuple[Path, int]) -> None:
    path, call = sample
    reader = Reader(idle_s=0.2)
    reader.start()
    os.kill(reader.pid, signal.SIGSTOP)
    with pytest.raises(Damaged, match="too long"):
        ask(reader, path, [call])
    assert reader.pid == 0
    reader.stop()


def test_give_up_ends_a_read_in_progress(sample: tuple[Path, int]) -> None:
    path, call = sample
    reader = Reader()
    reader.start()
    os.kill(reader.pid, signal.SIGSTOP)
    threading.Timer(0.1, reader.give_up).start()
    with pytest.raises(NotStarted, match="not read any more"):
        ask(reader, path, [call])
    assert (reader.pid, reader.starts) == (0, 1)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGPROF])
def test_the_error_names_the_file_that_kills_the_reader(
    sample: tuple[Path, int], number: signal.Signals
) -> None:
    path, call = sample
    reader = Reader()
    ask(reader, path, [call])
    os.kill(reader.pid, number)
    with pytest.raises(Damaged, match=str(path)):
        ask(reader, path, [call])
    reader.stop()


def test_a_file_that_is_truncated_while_it_is_read(tmp_path: Path) -> None:
    """Every process that has mapped it gets SIGBUS."""
    program = compile_c(tmp_path / "program")
    with waiting(program) as (pid, addresses):
        space = AddressSpace(read_mappings(pid))
        warnings: list[str] = []
        symbolizer = Symbolizer(warn=warnings.append)
        # libdw maps the file for the first name
        assert [f.symbol for f in frames_of(symbolizer, pid, space, addresses)] == CHAIN
        copy = tmp_path / "copy"
        copy.write_bytes(program.read_bytes())
        fd = os.open(copy, os.O_RDONLY)
        reader = Reader()
        reader.locate(7, fd, str(copy), "", [call_in(program)])
        os.truncate(copy, 4096)
        with pytest.raises(Damaged, match="SIGBUS"):
            reader.locate(7, fd, str(copy), "", list(range(0x1000, 0x1400)))
        reader.stop()
        os.close(fd)
        symbolizer.close()


def test_a_damaged_file_causes_one_warning_and_has_no_symbols(tmp_path: Path) -> None:
    program = compile_c(tmp_path / "program")
    reader = Reader()
    warnings: list[str] = []
    symbolizer = Symbolizer(reader=reader, warn=warnings.append)
    with waiting(program) as (pid, addresses):
        space = AddressSpace(read_mappings(pid))
        for _ in range(3):
            if not warnings:
                os.kill(reader.pid, signal.SIGXCPU)  # as if reading the file took forever
                os.waitid(os.P_PID, reader.pid, os.WEXITED | os.WNOWAIT)
            frames = frames_of(symbolizer, pid, space, addresses)
            assert [(f.symbol, f.module, f.file) for f in frames] == [("", str(program), "")]
            assert frames[0].offset == call_in(program) + 1
    symbolizer.close()
    assert len(warnings) == 1
    assert str(program) in warnings[0]


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=80).map(lambda text: "_R" + text)
    | st.from_regex(r"_R[CNIMXYBTADFGKLEsu0-9a-z_]{0,80}", fullmatch=True)
    | st.from_regex(r"_ZN([0-9]{1,3}[a-zA-Z$.0-9]{0,20}){0,6}17h[0-9a-f]{16}E", fullmatch=True)
)
def test_the_length_of_any_demangled_name_is_limited(name: str) -> None:
    assert len(demangle(name)) <= MAX_LENGTH


def test_a_rust_name_that_doubles_with_each_step_is_cut() -> None:
    pairs = "".join(f"TB{digit}_B{digit}_E" for digit in "abcdefghijklmnopqrst")
    doubling = f"_RINvC1a1b{pairs}E"
    assert len(demangle(doubling)) <= MAX_LENGTH
