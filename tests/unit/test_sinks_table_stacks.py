# SPDX-License-Identifier: Apache-2.0
"""Call stacks in the tables: which frames are shown, and how rows differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.snapshots import IDLE, INSERT, MAIN, RUNTIME, heap, lines_of, stack

from kwatch.model.frame import Ending, Frame
from kwatch.model.snapshot import CallStackStats, StackStats, SyscallStats, SyscallSummary


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
        (Ending.FRAME_POINTERS, "[partly by frame pointers]"),
        (Ending.COMPLETE, ""),
        (Ending.FINISHED, ""),
    ],
)
def test_a_stack_that_is_cut_says_so_in_its_last_line(ending: Ending, said: str) -> None:
    lines = lines_of(heap(replace(stack(1, 64, Frame(1, "leak")), ending=ending)))
    at = next(i for i, line in enumerate(lines) if line.endswith("leak"))
    assert lines[at + 1].strip() == said


OPEN = Frame(0x115, "open_stream", 0x15, "/bin/app")


def at(frame: Frame, offset: int) -> Frame:
    return replace(frame, address=frame.address - frame.offset + offset, offset=offset)


def places_of_all(*stacks: StackStats, full_stacks: bool = False) -> list[list[str]]:
    """The lines of each stack, without the numbers before them."""
    lines = lines_of(heap(*stacks), full_stacks=full_stacks)[3:-1]
    starts = [n for n, line in enumerate(lines) if "2.5 s" in line]
    places = [line.rpartition("2.5 s")[2].strip() for line in lines]
    ends = [*starts[1:], len(lines)]
    return [places[start:end] for start, end in zip(starts, ends, strict=True)]


def test_rows_that_differ_by_an_address_show_it() -> None:
    stacks = [stack(n, 64, at(OPEN, offset), MAIN) for n, offset in enumerate((0x15, 0x2F))]
    other = stack(3, 64, INSERT, MAIN)
    assert places_of_all(*stacks, other) == [
        ["open_stream+0x15 app", "main main.c:40"],
        ["open_stream+0x2f app", "main main.c:40"],
        ["insert cache.c:212", "main main.c:40"],
    ]


def test_only_the_innermost_difference_is_shown() -> None:
    stacks = [
        stack(1, 64, INSERT, OPEN, MAIN),
        stack(2, 64, INSERT, OPEN, at(MAIN, 9)),
        stack(3, 64, INSERT, at(OPEN, 0x30), MAIN),
    ]
    first, second, third = places_of_all(*stacks)
    assert third == ["insert cache.c:212", "open_stream+0x30 app", "main main.c:40"]
    assert second == ["insert cache.c:212", "open_stream+0x15 app", "main+0x9 main.c:40"]
    assert first == ["insert cache.c:212", "open_stream+0x15 app", "main+0x4 main.c:40"]


def test_a_difference_in_a_frame_that_is_left_out_is_shown() -> None:
    deep = [Frame(n, f"f{n}", 1) for n in range(100, 120)]
    changed = [*deep[:15], at(deep[15], 0x20), *deep[16:]]
    first, second = places_of_all(stack(1, 64, *deep), stack(2, 64, *changed))
    assert first[6:] == ["f106", "... 8 more", "f115+0x1", "... 4 more"]
    assert second[6:] == ["f106", "... 8 more", "f115+0x20", "... 4 more"]
    started = Frame(9, "start_thread", 4, "/lib/libc.so.6")
    first, second = places_of_all(stack(1, 64, MAIN, started), stack(2, 64, MAIN, at(started, 8)))
    assert (first[1], second[1]) == ("start_thread+0x4 libc.so.6", "start_thread+0x8 libc.so.6")


def test_inlined_functions_have_no_offset_of_their_own() -> None:
    stacks = [
        stack(n, 64, replace(INSERT, address=frame.address, inlined=True), frame, MAIN)
        for n, frame in enumerate((OPEN, at(OPEN, 0x40)))
    ]
    first, second = places_of_all(*stacks)
    assert first[:2] == ["insert (inlined) cache.c:212", "open_stream+0x15 app"]
    assert second[:2] == ["insert (inlined) cache.c:212", "open_stream+0x40 app"]


def test_stacks_without_a_difference_stay_alike() -> None:
    same = ["open_stream app", "main main.c:40"]
    assert places_of_all(stack(1, 64, OPEN, MAIN), stack(2, 64, OPEN, MAIN)) == [same, same]
    assert places_of_all(stack(1, 64), stack(2, 64)) == [["[stack lost]"]] * 2


@pytest.mark.parametrize("full_stacks", [False, True])
def test_the_difference_is_shown_where_recursion_goes_on_for_long(full_stacks: bool) -> None:
    calls = [Frame(5, "eval", 5), Frame(6, "call", 6)] * 50
    stacks = [stack(n, 64, *calls, at(OPEN, offset)) for n, offset in enumerate((1, 2))]
    first, second = places_of_all(*stacks, full_stacks=full_stacks)
    assert len(first) == len(second) == (101 if full_stacks else 7)
    assert [line for line in first if line not in second] == ["open_stream+0x1 app"]


def test_no_line_stands_for_one_frame() -> None:
    library = [Frame(n, f"f{n}", 0, "/usr/lib/libc.so.6") for n in range(12)]
    assert places_of(*library, MAIN, library[0])[-2:] == ["main main.c:40", "f0 libc.so.6"]


def test_system_calls_from_different_addresses_show_them() -> None:
    row = CallStackStats(1, "read", 7, 2, 8000, (OPEN, MAIN), Ending.COMPLETE)
    others = (
        replace(row, stack=2, frames=(at(OPEN, 0x44), MAIN)),
        replace(row, stack=3, name="write"),
    )
    by_name = (SyscallStats("read", 9, 2, 9000, 1, 1, 1),)
    summary = SyscallSummary(21, 6, by_name, {}, (row, *others))
    lines = lines_of(replace(IDLE, syscalls=summary))
    shown = [line.strip() for line in lines if "open_stream" in line]
    assert shown == ["open_stream+0x15 app", "open_stream+0x44 app", "open_stream app"]


@pytest.mark.parametrize(
    ("program", "way"),
    [
        ("/usr/bin/node", "start it with node --perf-basic-prof"),
        ("/usr/lib/jvm/bin/java", "jcmd PID Compiler.perfmap writes one (JDK 17)"),
        ("/bin/other", "docs/symbols.md says how runtimes write one"),
    ],
)
def test_generated_code_without_names_has_a_cure(program: str, way: str) -> None:
    snapshot = heap(stack(1, 64, Frame(0x6000, "", 0, "//anon"), MAIN))
    snapshot = replace(snapshot, process=replace(snapshot.process, exe=program))
    hint = f"addresses without a name are generated code, which a perf map names: {way}"
    assert hint in lines_of(snapshot, width=None)
    named = heap(stack(1, 64, Frame(0x6000, "run:app.js", 0, "//anon"), Frame(0x7000)))
    assert not any("perf map" in line for line in lines_of(named))
