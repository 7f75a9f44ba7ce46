# SPDX-License-Identifier: Apache-2.0
"""The tables fit a terminal of any width; pipes and files get whole lines."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from dataclasses import replace

import pytest
from harness.snapshots import IDLE, columns, heap, lines_of, stack, syscalls

from kwatch.model.frame import Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import (
    HeapStats,
    Lost,
    MemoryStats,
    Snapshot,
    StackStats,
    SyscallStats,
    SyscallSummary,
    Verdict,
)
from kwatch.sinks.table.names import shortened
from kwatch.sinks.table.screen import Screen, terminal_width
from kwatch.sinks.table.syscalls import syscall_lines
from kwatch.sinks.table.table import Tables

APPEND = "std::basic_string<char, std::allocator<char> >::_M_append(char const*, unsigned long)"


def hostile() -> Snapshot:
    names = ["std::map<" + "std::vector<int>, " * 20 + ">::operator[](int)", "変数" * 80, "x" * 300]
    frames = [
        Frame(2**64 - 1, name, 2**63, "/lib/" + "m" * 300, "f" * 300, 2**31) for name in names
    ]
    frames += [Frame(2**64 - 1), Frame(2**64 - 1, "", 2**64 - 1, "/lib/" + "n" * 300)]
    big = 2**64 - 1
    stacks = (
        StackStats(1, big, big, 9e9, (), (), tuple(frames * 9)),
        StackStats(2, 0, 0, 0.0, (), ()),
    )
    calls = tuple(SyscallStats("s" * 40, big, big, big, big, big, big, big) for _ in range(40))
    return Snapshot(
        kind="final",
        time=IDLE.time,
        elapsed_s=9e9,
        process=ProcessFacts(2**22, 1.0, "\x1b[31m\n\udcff\t名", "/" + "é" * 4000, True),
        heap=HeapStats(big, big, big, big, big, big, big, big, stacks=stacks),
        memory=MemoryStats(big, big, big, big, -big),
        syscalls=SyscallSummary(big, big, calls),
        lost=Lost(big, {"heap_ring_full": big, "slots_full": big}),
        verdict=Verdict.UNSURE,
        reason="because " + "w" * 200 + " of loss " * 30,
    )


@pytest.mark.parametrize("width", [80, 132, 1000])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1"])
def test_nothing_is_wider_than_the_terminal_or_moves_its_cursor(encoding: str, width: int) -> None:
    first = replace(hostile(), kind="snapshot", heap=HeapStats())
    lines = lines_of(first, hostile(), encoding=encoding, width=width)
    assert max(map(columns, lines)) <= width
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("symbol", "short"),
    [
        (APPEND, "std::basic_string<…>::_M_append(…)"),
        ("std::ostream& operator<< <int>(std::ostream&, int)", "std::ostream& operator<< <…>(…)"),
        (
            "(anonymous namespace)::F<int>::operator()(int)",
            "(anonymous namespace)::F<…>::operator()(…)",
        ),
        ("<alloc::Vec<T> as core::Call<fn(u8) -> T>>::push_back_all", "<…>::push_back_all"),
        ("std::__detail::_Compiler<T>::_M_alternative(int)", "…_Compiler<…>::_M_alternative"),
        ("ui::detail::Widget::paint(int)", "…paint"),
        ("a_name_of_c_that_is_too_long", "a_name_of_c_…is_too_long"),
    ],
)
def test_arguments_go_before_the_name_does(symbol: str, short: str) -> None:
    assert shortened(symbol, Screen(80, "utf-8"), len(symbol)) == symbol
    assert shortened(symbol, Screen(80, "utf-8"), len(short)) == short


def test_a_long_path_costs_the_header_nothing_else() -> None:
    process = replace(IDLE.process, exe="/nix/store/" + "x" * 90 + "/bin/nginx", exited=True)
    [line] = lines_of(replace(IDLE, process=process))
    assert "] nginx[1234]  5.0 s  exited  /nix/store/" in line
    assert line.endswith("/bin/nginx  no events")
    assert columns(line) == 80


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (80, ["NAME", "CALLS", "ERRORS", "TOTAL", "SHARE", "AVG", "P50", "P99", "MAX"]),
        (72, ["NAME", "CALLS", "ERRORS", "TOTAL", "SHARE", "AVG", "P99", "MAX"]),
        (64, ["NAME", "CALLS", "ERRORS", "TOTAL", "SHARE", "P99", "MAX"]),
        (56, ["NAME", "CALLS", "ERRORS", "TOTAL", "SHARE", "MAX"]),
        (46, ["NAME", "CALLS", "ERRORS", "TOTAL", "MAX"]),
    ],
)
def test_columns_go_where_the_terminal_is_narrow(width: int, headers: list[str]) -> None:
    stats = SyscallStats("clock_nanosleep", 999_999, 0, 10**9, 10**6, 10**6, 10**6)
    summary = SyscallSummary(999_999, 0, (stats,))
    lines = syscall_lines(summary, 1.0, Screen(width, "utf-8"))
    assert lines[0].split() == headers
    assert max(map(len, lines)) <= width


def test_a_narrow_terminal_leaves_names_their_room() -> None:
    name = "a_name_of_c_that_is_longer_than_that"
    for width in (1, 20, 40):
        lines = lines_of(heap(stack(1, 2048, Frame(1, name, 0, "/bin/app"))), width=width)
        assert any(" a_" in line and line.endswith(" app") for line in lines)


def test_the_source_line_goes_before_the_mark_of_inlined_functions() -> None:
    frame = Frame(1, "operator[]", 0, "/bin/app", "stl_map.h", 511, inlined=True)
    snapshot = heap(stack(1, 2048, frame))
    assert lines_of(snapshot)[3].endswith("  operator[] (inlined) stl_map.h:511")
    assert lines_of(snapshot, width=60)[3].endswith("  operator[] stl_map.h:511")


def test_pipes_and_files_get_whole_names_and_lines() -> None:
    long = "n" * 300
    frame = Frame(1, f"f{long}(int)", 0, f"/lib/m{long}", f"s{long}.c", 7)
    process = replace(IDLE.process, exe=f"/opt/{long}/nginx")
    calls = syscalls(SyscallStats(f"c{long}", 1, 0, 10, 10, 10, 10)).syscalls
    final = replace(
        heap(stack(1, 64, frame)),
        kind="final",
        process=process,
        syscalls=calls,
        verdict=Verdict.LEAK,
        reason=f"because {long} of " * 9 + "the end",
    )
    lines = lines_of(final, width=None)
    assert lines[0].endswith(f"/opt/{long}/nginx")
    assert lines[3].endswith(f"f{long}(int) s{long}.c:7")
    assert lines[-4].startswith(f"c{long} ")
    [verdict] = [line for line in lines if line.startswith("LEAK: nginx[1234]: because ")]
    assert verdict.endswith("the end")
    wrapped = lines_of(final)
    [start] = [n for n, line in enumerate(wrapped) if line.startswith("LEAK: nginx[1234]: ")]
    assert all(line.startswith("  ") for line in wrapped[start + 1 : -1])
    assert len(wrapped) > len(lines)


class Terminal:
    """A pseudoterminal; programs write to `stream`."""

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        self.stream = open(theirs, "w", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def resize(self, width: int) -> None:
        fcntl.ioctl(self.stream, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def read(self) -> str:
        return os.read(self._ours, 1 << 16).decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.delenv("COLUMNS", raising=False)
    made = Terminal()
    yield made
    made.close()


def test_the_width_is_that_of_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert terminal_width(terminal.stream) == 80  # one that does not know its size
    terminal.resize(132)
    assert terminal_width(terminal.stream) == 132
    monkeypatch.setenv("COLUMNS", "100")
    assert terminal_width(terminal.stream) == 100
    for unusable in ("", "0", "-5", "wide"):
        monkeypatch.setenv("COLUMNS", unusable)
        assert terminal_width(terminal.stream) == 132


def test_files_and_pipes_have_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as pipe, open(os.devnull, "w") as device:
        assert [terminal_width(pipe), terminal_width(device)] == [None, None]
    os.close(reading)


def test_each_report_asks_for_the_width(terminal: Terminal) -> None:
    sink = Tables(terminal.stream)
    long = replace(IDLE, process=replace(IDLE.process, exe="/nix/store/" + "x" * 300))
    for width in (60, 200):
        terminal.resize(width)
        sink.write(long)
        assert len(terminal.read().rstrip()) == width
