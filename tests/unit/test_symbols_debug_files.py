# SPDX-License-Identifier: Apache-2.0
"""Debug information in all places where toolchains put it, compared with addr2line."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harness.compiled import CHAIN, INLINED, addr2line, ask, call_in, compile_c, located, run

from kwatch.elf.elf import Elf
from kwatch.symbols.reader import Reader


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.stop()


@pytest.mark.parametrize(
    "options",
    [
        ["-gdwarf-4"],
        ["-gdwarf-5"],
        ["-gdwarf-5", "-no-pie", "-static"],
        ["-gz=zlib"],
        ["-gdwarf-4", "-gz=zlib", "-flto"],
    ],
    ids=" ".join,
)
def test_inlined_functions_agree_with_addr2line(
    tmp_path: Path, reader: Reader, options: list[str]
) -> None:
    path = compile_c(tmp_path / "program", *options)
    call = call_in(path)

    found = located(path, call, reader=reader)

    assert [name for name, _, _ in found] == CHAIN
    assert found == addr2line(path, call)
    assert [line for _, _, line in found] == [
        INLINED[: INLINED.index(text)].count("\n") + 1
        for text in ("return spot(n)", "inner(n + 1)", "middle(n + 2)")
    ]


def test_split_debug_information(tmp_path: Path, reader: Reader) -> None:
    path = compile_c(tmp_path / "program", "-gsplit-dwarf")
    found = located(path, call_in(path), reader=reader)
    assert [name for name, _, _ in found] == CHAIN
    assert all(file == str(tmp_path / "program.c") and line for _, file, line in found)


def stripped(path: Path, debug: Path, link: bool = False) -> Path:
    """Moves the debug information of a program to `debug`."""
    debug.parent.mkdir(parents=True, exist_ok=True)
    run("objcopy", "--only-keep-debug", path, debug)
    bare = path.with_name("bare")
    options = [f"--add-gnu-debuglink={debug}"] if link else []
    run("objcopy", "--strip-all", *options, path, bare)
    return bare


def build_id_path(path: Path) -> str:
    with Elf.open(str(path)) as elf:
        assert elf.build_id is not None
        name = elf.build_id.hex()
    return f".build-id/{name[:2]}/{name[2:]}.debug"


def test_a_stripped_program_has_no_names(tmp_path: Path, reader: Reader) -> None:
    path = compile_c(tmp_path / "program")
    bare = stripped(path, tmp_path / "elsewhere")
    assert located(bare, call_in(path), reader=reader) == [("", "", 0)]


def test_a_debug_file_is_found_by_its_link_and_refused_with_another_checksum(
    tmp_path: Path, reader: Reader
) -> None:
    path = compile_c(tmp_path / "program", "-Wl,--build-id=none")
    call, debug = call_in(path), tmp_path / ".debug" / "program.debug"
    bare = stripped(path, debug, link=True)
    assert [name for name, _, _ in located(bare, call, reader=reader)] == CHAIN

    debug.write_bytes(debug.read_bytes() + b"\0")
    assert ask(reader, bare, [call], number=2).locations[0].places[0].name == ""


@pytest.mark.parametrize("where", ["by build-id", "by link", "beside"])
def test_a_debug_file_is_found_in_the_root_of_the_program(
    tmp_path: Path, reader: Reader, where: str
) -> None:
    path = compile_c(tmp_path / "program")
    root, folder = tmp_path / "root", tmp_path
    debug = {
        "by build-id": root / "usr/lib/debug" / build_id_path(path),
        "by link": Path(f"{root}/usr/lib/debug{folder}/program.debug"),
        "beside": Path(f"{root}{folder}/program.debug"),
    }[where]
    bare = stripped(path, debug, link=True)
    found = located(bare, call_in(path), str(root), reader)
    assert [name for name, _, _ in found] == CHAIN


def test_a_debug_file_of_another_build_is_refused(tmp_path: Path, reader: Reader) -> None:
    path = compile_c(tmp_path / "program")
    other = compile_c(tmp_path / "other", source=INLINED.replace("n + 2", "n + 3"))
    root = tmp_path / "root"
    wrong = root / "usr/lib/debug" / build_id_path(path)
    bare = stripped(path, tmp_path / "right")
    stripped(other, wrong)
    assert located(bare, call_in(path), str(root), reader) == [("", "", 0)]


def test_names_are_found_in_mini_debuginfo(tmp_path: Path, reader: Reader) -> None:
    path = compile_c(tmp_path / "program")
    mini = tmp_path / "mini"
    run("objcopy", "--strip-debug", path, mini)
    run("xz", mini)
    bare = stripped(path, tmp_path / "elsewhere")
    run("objcopy", "--add-section", f".gnu_debugdata={mini}.xz", bare)
    assert located(bare, call_in(path), reader=reader) == [("outer", "", 0)]


@pytest.mark.needs("dwz")
def test_names_in_a_shared_supplementary_file_are_found(tmp_path: Path, reader: Reader) -> None:
    first = compile_c(tmp_path / "first")
    second = compile_c(tmp_path / "second")
    expected = addr2line(first, call_in(first))
    run("dwz", "-m", tmp_path / "common", first, second)
    assert "debug_str" in run("readelf", "-SW", tmp_path / "common")
    assert ".gnu_debugaltlink" in run("readelf", "-SW", first)
    assert located(first, call_in(first), reader=reader) == expected


class Server:
    """Serves one debug file like debuginfod, as soon as it is allowed to."""

    def __init__(self, debug: Path, build_id: str) -> None:
        self.may_answer = threading.Event()
        self.asked: list[str] = []
        outer, wanted = self, f"/buildid/{build_id}/debuginfo"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.may_answer.wait()
                data = debug.read_bytes() if self.path == wanted else b""
                self.send_response(200 if data else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Drops the log message."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.may_answer.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, int, Server]]:
    """A stripped program, a return address in it, and the server with its debug information."""
    path = compile_c(tmp_path / "program")
    debug = tmp_path / "elsewhere"
    bare = stripped(path, debug)
    server = Server(debug, build_id_path(path).removesuffix(".debug").replace("/", "")[9:])
    monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    yield bare, call_in(path), server
    server.close()


@pytest.mark.needs("debuginfod")
def test_a_server_is_queried_once(served: tuple[Path, int, Server]) -> None:
    bare, call, server = served
    server.may_answer.set()
    for _ in range(2):
        reader = Reader()
        assert [name for name, _, _ in located(bare, call, reader=reader)] == CHAIN
        reader.stop()
    assert len(server.asked) == 1


@pytest.mark.needs("debuginfod")
def test_naming_does_not_wait_for_a_slow_server(served: tuple[Path, int, Server]) -> None:
    bare, call, server = served
    reader = Reader()
    first = ask(reader, bare, [call])
    assert first.partial
    assert first.locations[0].places[0].name == ""

    server.may_answer.set()
    deadline = time.monotonic() + 30
    while (last := ask(reader, bare, [call])).partial:
        assert time.monotonic() < deadline
    assert [place.name for place in last.locations[0].places] == CHAIN
    reader.stop()


@pytest.mark.needs("debuginfod")
def test_an_unreachable_server_is_not_an_error(
    served: tuple[Path, int, Server], monkeypatch: pytest.MonkeyPatch, reader: Reader
) -> None:
    bare, call, _ = served
    with socket.create_server(("127.0.0.1", 0)) as unused:
        monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{unused.getsockname()[1] ^ 1}")
    assert located(bare, call, reader=reader) == [("", "", 0)]
    assert os.environ["DEBUGINFOD_URLS"]
