# SPDX-License-Identifier: Apache-2.0
"""The tables that people read."""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace

import pytest

from kwatch.model.frame import Ending, Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import (
    CallStackStats,
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
from kwatch.sinks.table.screen import Screen
from kwatch.sinks.table.table import Tables

APPEND = "std::basic_string<char, std::allocator<char> >::_M_append(char const*, unsigned long)"
RUNTIME = (Frame(3, "__libc_start_call_main"), Frame(4, "__libc_start_main@@GLIBC_2.34"))
INSERT = Frame(1, "insert", 8, "/bin/app", "/src/cache.c", 212)
MAIN = Frame(2, "main", 4, "/bin/app", "main.c", 40)

IDLE = Snapshot(
    kind="snapshot",
    time="2026-01-31T12:00:05.000Z",
    elapsed_s=5.0,
    process=ProcessFacts(1234, 1.0, "nginx", "/usr/sbin/nginx"),
    heap=HeapStats(),
    memory=MemoryStats(),
    syscalls=SyscallSummary(),
    lost=Lost(),
    verdict=None,
)


def stack(identity: int, size: int, *frames: Frame) -> StackStats:
    return StackStats(identity, size, 1, 2.5, (16,), (size,), frames)


def heap(*stacks: StackStats, younger: int = 0) -> Snapshot:
    size = sum(one.bytes for one in stacks) + younger
    blocks = len(stacks) + (younger > 0)
    return replace(IDLE, heap=HeapStats(size, blocks, 1200, size, 7, 0, stacks=stacks))


def syscalls(*by_name: SyscallStats) -> Snapshot:
    calls, errors = (sum(getattr(one, key) for one in by_name) for key in ("calls", "errors"))
    return replace(IDLE, syscalls=SyscallSummary(calls, errors, by_name))


def lines_of(
    *snapshots: Snapshot, encoding: str = "utf-8", color: bool = False, full_stacks: bool = False
) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    sink = Tables(stream, color=color, full_stacks=full_stacks)
    for snapshot in snapshots:
        sink.write(snapshot)
    stream.seek(0)
    return stream.read().splitlines()


def rows_of(lines: list[str]) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in lines]


def columns(line: str) -> int:
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
    return len(line) + wide


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
        lost=Lost(big, {"heap_ring_full": big, "calls_map_full": big}),
        verdict=Verdict.UNSURE,
        reason="because " + "w" * 200 + " of loss " * 30,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1"])
def test_nothing_is_wider_than_the_terminal_or_moves_its_cursor(encoding: str) -> None:
    first = replace(hostile(), kind="snapshot", heap=HeapStats())
    lines = lines_of(first, hostile(), encoding=encoding)
    assert max(map(columns, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def test_a_heap_reads_from_the_innermost_frame_to_main() -> None:
    unknown = Frame(0x7F0000000010, "", 0x1A2B, "/usr/lib/libssl.so.3")
    lines = lines_of(
        heap(stack(1, 2048, INSERT, MAIN, *RUNTIME), stack(2, 1024, unknown), stack(3, 9))
    )
    assert rows_of(lines[2:-1]) == [
        ["BYTES", "BLOCKS", "AGE", "WHERE"],
        ["2.0 KiB", "1", "2.5 s", "insert cache.c:212"],
        ["main main.c:40"],
        ["1.0 KiB", "1", "2.5 s", "libssl.so.3+0x1a2b"],
        ["9 B", "1", "2.5 s", "[stack lost]"],
    ]


def test_deep_stacks_are_cut_at_eight_lines() -> None:
    frames = [Frame(n, f"f{n}") for n in range(12)]
    lines = lines_of(heap(stack(1, 64, *frames)))
    assert [line.split()[-1] for line in lines[-4:-1]] == ["f5", "f6", "more"]
    assert lines[-2].endswith("... 5 more")
    assert lines[-2].index("...") == lines[-3].index("f6")


def test_of_a_deep_stack_the_programs_own_frame_is_shown() -> None:
    library = [Frame(n, f"f{n}", 0, "/usr/lib/libc.so.6") for n in range(12)]
    lines = lines_of(heap(stack(1, 64, *library, MAIN, *library)))
    assert [line.strip() for line in lines[-5:-1]] == [
        "f4 libc.so.6",
        "... 7 more",
        "main main.c:40",
        "... 12 more",
    ]


NEW = Frame(5, "operator new(unsigned long)", 0, "/usr/lib/libstdc++.so.6")
WALK = Frame(6, "walk", 0, "/bin/app", "tree.c", 7)


def places_of(*frames: Frame, full_stacks: bool = False) -> list[str]:
    lines = lines_of(heap(stack(1, 64, *frames)), full_stacks=full_stacks)
    return [line.split("2.5 s")[-1].strip() for line in lines[3:-1]]


def test_the_allocator_and_the_start_up_code_are_left_out() -> None:
    assert places_of(NEW, INSERT, MAIN, *RUNTIME) == ["insert cache.c:212", "main main.c:40"]
    assert places_of(NEW, *RUNTIME) == ["operator new(unsigned long) libstdc++.so.6"]
    assert places_of(*RUNTIME) == ["__libc_start_call_main"]


def test_inlined_functions_are_marked() -> None:
    inlined = replace(INSERT, inlined=True)
    assert places_of(inlined, MAIN) == ["insert (inlined) cache.c:212", "main main.c:40"]


VECTOR = "/usr/include/c++/12/bits/stl_vector.h"
RUST = "/rustc/9fc6b431/library/std/src/rt.rs"


def test_of_the_standard_library_only_what_the_program_called_is_shown() -> None:
    allocate = Frame(5, "allocate", 0, "/bin/app", "/usr/include/c++/12/new", 9, inlined=True)
    resize = Frame(5, "resize", 0, "/bin/app", VECTOR, 11, inlined=True)
    thread = Frame(8, "", 0xD44A3, "/usr/lib/libstdc++.so.6.0.30")
    assert places_of(NEW, allocate, resize, INSERT, thread, *RUNTIME) == [
        "resize (inlined) stl_vector.h:11",
        "insert cache.c:212",
    ]
    assert len(places_of(NEW, allocate, resize, INSERT, full_stacks=True)) == 4


def test_what_starts_a_rust_program_is_left_out() -> None:
    started = Frame(7, "std::rt::lang_start_internal", 0, "/bin/app", RUST, 171)
    assert places_of(INSERT, started, Frame(8, "main", 3, "/bin/app"), *RUNTIME) == [
        "insert cache.c:212"
    ]


def test_recursion_takes_one_line() -> None:
    other = replace(WALK, line=9)
    assert places_of(*[WALK] * 30, other, WALK, MAIN) == [
        "walk tree.c:7 x30",
        "walk tree.c:9",
        "walk tree.c:7",
        "main main.c:40",
    ]


def test_full_stacks_have_every_frame() -> None:
    frames = [NEW, *(Frame(n, f"f{n}") for n in range(20)), *RUNTIME]
    assert len(places_of(*frames)) == 8
    assert places_of(*frames, full_stacks=True) == [
        "operator new(unsigned long) libstdc++.so.6",
        *(f"f{n}" for n in range(20)),
        "__libc_start_call_main",
        "__libc_start_main@@GLIBC_2.34",
    ]


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (Ending.TOO_DEEP, "[cut: too deep]"),
        (Ending.NO_ROW, "[cut: code without unwind information]"),
        (Ending.FRAME_POINTERS, "[in part by frame pointers]"),
        (Ending.COMPLETE, ""),
        (Ending.FINISHED, ""),
    ],
)
def test_a_stack_that_is_cut_says_so_in_its_last_line(ending: Ending, said: str) -> None:
    lines = lines_of(heap(replace(stack(1, 64, Frame(1, "leak")), ending=ending)))
    at = next(i for i, line in enumerate(lines) if line.endswith("leak"))
    assert lines[at + 1].strip() == said


def test_growth_is_since_the_last_snapshot_of_the_same_process() -> None:
    other = replace(heap(stack(1, 9000, MAIN)), process=ProcessFacts(1234, 2.0, "nginx", ""))
    first = heap(stack(1, 1024, INSERT), stack(2, 512, MAIN))
    second = heap(stack(1, 3072, INSERT), stack(2, 12, MAIN), stack(3, 5, MAIN), younger=90)
    lines = lines_of(first, other, second)[-7:-1]
    assert "(+1.6 KiB, +2 blocks)" in lines[0]
    assert rows_of(lines[1:]) == [
        ["BYTES", "GROWTH", "BLOCKS", "AGE", "WHERE"],
        ["3.0 KiB", "+2.0 KiB", "1", "2.5 s", "insert cache.c:212"],
        ["12 B", "-500 B", "1", "2.5 s", "main main.c:40"],
        ["5 B", "new", "1", "2.5 s", "main main.c:40"],
        ["90 B", "1", "(younger, or beyond --top)"],
    ]


def test_a_process_to_which_nothing_happened_takes_one_line() -> None:
    first = heap(stack(1, 1024, INSERT))
    later = replace(first, elapsed_s=10.0)
    assert lines_of(first, later)[-1].endswith(
        "] nginx[1234]  10.0 s  /usr/sbin/nginx  no new events"
    )
    final = replace(later, kind="final", verdict=Verdict.LEAK)
    assert lines_of(first, final)[-2] == "LEAK"  # a final report is whole
    grown_old = heap(stack(1, 1024, INSERT), stack(2, 512, MAIN))
    rows = grown_old.heap.stacks
    for fewer in (rows[:1], (rows[0], replace(rows[1], blocks=0, bytes=9))):
        younger = replace(grown_old, heap=replace(grown_old.heap, stacks=fewer))
        assert any("main main.c:40" in line for line in lines_of(younger, grown_old)[-4:])


def test_syscalls_end_with_the_rest_and_the_totals() -> None:
    read = SyscallStats("read", 100_001, 3, 2_000_000, 1_000, 2_000, 3_000)
    blocked = SyscallStats("futex", 0, 0, 0, 0, 0, 0, unfinished=2)
    small = [SyscallStats(f"call{n}", 1, 0, 10, 10, 10, 10) for n in range(20)]
    rows = rows_of(lines_of(syscalls(read, *small, blocked))[2:-1])
    assert rows[1] == ["read", "100,001", "3", "2.0 ms", "1.0 us", "2.0 us", "3.0 us"]
    assert rows[-4] == ["call13", "1", "10 ns", "10 ns", "10 ns", "10 ns"]
    assert rows[-3] == ["(6 more)", "6", "60 ns"]
    assert rows[-2] == ["total", "100,021", "3", "2.0 ms"]
    assert rows[-1] == ["unfinished: futex 2"]


def test_loss_is_named_only_if_there_is_some() -> None:
    lost = Lost(12_345, {"stack_ring_full": 345, "heap_ring_full": 12_000, "calls_map_full": 0})
    text = " ".join(line.strip() for line in lines_of(replace(IDLE, lost=lost)))
    assert (
        "lost: 12,345 events (heap ring full 12,000, stack ring full 345): "
        "totals are lower bounds; a larger --buffer may help" in text
    )
    assert "lost:" not in "".join(lines_of(heap(stack(1, 1))))


def test_a_long_path_costs_the_header_nothing_else() -> None:
    process = replace(IDLE.process, exe="/nix/store/" + "x" * 90 + "/bin/nginx", exited=True)
    [line] = lines_of(replace(IDLE, process=process))
    assert "] nginx[1234]  5.0 s  exited  /nix/store/" in line
    assert line.endswith("/bin/nginx  no events")
    assert columns(line) == 80


def test_an_idle_process_takes_one_line() -> None:
    final = replace(IDLE, kind="final", verdict=Verdict.CLEAN)
    [line] = lines_of(final)
    assert line.endswith("] nginx[1234]  5.0 s  /usr/sbin/nginx  no events  CLEAN")
    unsure = replace(final, verdict=Verdict.UNSURE, reason="no allocator was found")
    line, why = lines_of(unsure)
    assert line.endswith("/usr/sbin/nginx  no events")
    assert why == "UNSURE: no allocator was found"


def test_the_verdict_is_the_last_line_and_in_color_if_asked() -> None:
    final = replace(heap(stack(1, 1)), kind="final", verdict=Verdict.LEAK, reason="LEAK it is")
    assert lines_of(final)[-2] == "LEAK: LEAK it is"
    assert lines_of(final, color=True)[-2] == "\033[1;31mLEAK\033[0m: LEAK it is"
    assert "LEAK" not in "".join(lines_of(replace(final, kind="snapshot")))


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


def test_stacks_of_system_calls_stand_below_the_calls() -> None:
    by_name = (SyscallStats("read", 9, 2, 9000, 1, 1, 1), SyscallStats("dup", 1, 0, 50, 1, 1, 1))
    stacks = (
        CallStackStats(1, "read", 7, 2, 8000, (INSERT, MAIN, *RUNTIME), Ending.COMPLETE),
        CallStackStats(2, "execve", 1, 0, 100, (), Ending.OFF),
    )
    summary = SyscallSummary(10, 2, by_name, {}, stacks)
    lines = lines_of(replace(IDLE, syscalls=summary))
    start = next(index for index, line in enumerate(lines) if "WHERE" in line)
    assert lines[start:] == [
        " TOTAL  CALLS  ERRORS  WHERE",
        "8.0 us      7       2  read",
        "                         insert cache.c:212",
        "                           main main.c:40",
        "100 ns      1          execve",
        "                         [by kwatch, to launch the command]",
        "950 ns      2          (beyond --top)",
        "",
    ]


@pytest.mark.parametrize("stacks", [None, ()])
def test_without_stacks_of_system_calls_nothing_is_said_of_them(stacks: None) -> None:
    summary = SyscallSummary(1, 0, (SyscallStats("dup", 1, 0, 50, 1, 1, 1),), stacks=stacks)
    assert not [line for line in lines_of(replace(IDLE, syscalls=summary)) if "WHERE" in line]
