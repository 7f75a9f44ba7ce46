# SPDX-License-Identifier: Apache-2.0
"""The reports that people read."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from harness.snapshots import (
    IDLE,
    INSERT,
    MAIN,
    RUNTIME,
    heap,
    lines_of,
    rows_of,
    stack,
    syscalls,
)

from kwatch.model.frame import Ending, Frame
from kwatch.model.mark import SinceMark
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import BlockCounts
from kwatch.model.snapshot import (
    CallStackStats,
    EndedStats,
    EndedSummary,
    HeapStats,
    Lost,
    MemoryStats,
    Snapshot,
    SyscallStats,
    SyscallSummary,
    Verdict,
)
from kwatch.sinks.table.ended import ended_lines
from kwatch.sinks.table.screen import Screen


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
        ["90 B", "1", "(younger than --older, or beyond --top)"],
    ]


def test_a_stack_that_has_not_grown_has_a_blank_for_growth() -> None:
    first = heap(stack(1, 1024, INSERT))
    second = heap(stack(1, 1024, INSERT), stack(2, 5, MAIN))
    rows = rows_of(lines_of(first, second)[-5:-1])
    assert rows[2] == ["1.0 KiB", "1", "2.5 s", "insert cache.c:212"]


def test_a_process_to_which_nothing_happened_takes_one_line() -> None:
    first = heap(stack(1, 1024, INSERT))
    later = replace(first, elapsed_s=10.0)
    assert lines_of(first, later)[-1].endswith(
        "] nginx[1234]  10.0 s  /usr/sbin/nginx  no new events"
    )


def final_of(snapshot: Snapshot, verdict: Verdict, reason: str = "") -> Snapshot:
    return replace(snapshot, kind="final", verdict=verdict, reason=reason)


def test_a_final_report_does_not_repeat_the_tables_above_it() -> None:
    first = heap(stack(1, 1024, INSERT))
    final = final_of(replace(first, elapsed_s=5.1), Verdict.LEAK, "1 block")
    assert [line.partition("] ")[2] or line for line in lines_of(first, final)[-2:]] == [
        "nginx[1234]  5.1 s  /usr/sbin/nginx  no new events",
        "LEAK: nginx[1234]: 1 block",
    ]
    assert len(lines_of(first, first, final)) == len(lines_of(first)) + 3
    for long_after in (lines_of(*[first] * 20, final), lines_of(final)):
        assert sum("WHERE" in line for line in long_after[-6:]) == 1


def test_a_snapshot_without_events_may_list_other_rows() -> None:
    grown_old = heap(stack(1, 1024, INSERT), stack(2, 512, MAIN))
    rows = grown_old.heap.stacks
    for fewer in (rows[:1], (rows[0], replace(rows[1], blocks=0, bytes=9))):
        younger = replace(grown_old, heap=replace(grown_old.heap, stacks=fewer))
        assert any("main main.c:40" in line for line in lines_of(younger, grown_old)[-4:])


def test_syscalls_end_with_the_rest_and_the_totals() -> None:
    read = SyscallStats("read", 100_001, 3, 2_000_000, 1_000, 2_000, 3_000)
    blocked = SyscallStats("futex", 0, 0, 0, 0, 0, 0, unfinished=2)
    small = [SyscallStats(f"call{n}", 1, 0, 10, 10, 10, 10) for n in range(20)]
    rows = rows_of(lines_of(syscalls(read, *small, blocked))[1:-1])
    counts = ["100,001", "3", "2.0 ms", "100.0%", "19 ns"]
    assert rows[1] == ["read", *counts, "1.0 us", "2.0 us", "3.0 us"]
    assert rows[-4] == ["call13", "1", "10 ns", "0.0%", "10 ns", "10 ns", "10 ns", "10 ns"]
    assert rows[-3] == ["(6 more)", "6", "60 ns", "0.0%", "10 ns"]
    assert rows[-2] == ["total", "100,021", "3", "2.0 ms", "100.0%", "19 ns"]
    assert rows[-1] == ["unfinished: futex 2"]


def test_more_time_than_has_passed_is_that_of_several_threads() -> None:
    def said(total_ns: int) -> bool:
        futex = SyscallStats("futex", 1, 0, total_ns, 1, 1, total_ns)
        return "TOTAL adds up the times of several threads" in lines_of(syscalls(futex))

    elapsed_ns = int(IDLE.elapsed_s * 1e9)
    assert (said(elapsed_ns), said(elapsed_ns + 1)) == (False, True)


def test_ended_processes_are_listed_by_name() -> None:
    calls = SyscallSummary(20, 1, (SyscallStats("read", 20, 1, 4000, 1, 1, 1),))
    loop, rest = EndedStats("loop", 12_345, 7, calls), EndedStats("cat", 1, 0, SyscallSummary())
    lines = ended_lines(EndedSummary("", 1.0, (loop, rest), 3), Screen(None, None))
    assert rows_of(lines)[1:] == [
        ["NAME", "ENDED", "SKIPPED", "CALLS", "ERRORS", "TOTAL"],
        ["loop", "12,345", "7", "20", "1", "4.0 us"],
        ["cat", "1", "0 ns"],
        ["(3 more names)"],
    ]
    lines = ended_lines(EndedSummary("", 1.0, (EndedStats("cat", 1, 0, None),)), Screen(40, None))
    assert rows_of(lines[2:]) == [["NAME", "ENDED"], ["cat", "1"]]


@pytest.mark.parametrize(("earlier", "text"), [(2, "(earlier"), (1, "(1 earlier")])
def test_calls_from_before_the_attach_say_so(earlier: int, text: str) -> None:
    blocked = SyscallStats("futex", 0, 0, 0, 0, 0, 0, unfinished=2, began_earlier=earlier)
    assert f"unfinished: futex 2 {text})" in " ".join(lines_of(syscalls(blocked)))


def test_a_row_does_not_stand_for_one_system_call() -> None:
    for number, last in ((15, "call14"), (16, "call15"), (17, "(2 more)")):
        calls = [SyscallStats(f"call{n}", 1, 0, 10, 10, 10, 10) for n in range(number)]
        assert rows_of(lines_of(syscalls(*calls)))[-3][0] == last


def test_loss_is_named_only_if_there_is_some() -> None:
    lost = Lost(12_345, {"stack_ring_full": 345, "heap_ring_full": 12_000, "slots_full": 0})
    text = " ".join(line.strip() for line in lines_of(replace(IDLE, lost=lost)))
    assert (
        "lost: 12,345 events (heap ring full 12,000, stack ring full 345): "
        "totals are lower bounds; a larger --buffer may help" in text
    )
    assert "lost:" not in "".join(lines_of(heap(stack(1, 1))))
    one = lines_of(replace(IDLE, lost=Lost(1, {"slots_full": 1})))
    assert "lost: 1 event (slots full 1): totals are lower bounds" in one


def test_an_idle_process_takes_one_line() -> None:
    final = replace(IDLE, kind="final")
    [line] = lines_of(final)
    assert re.fullmatch(
        r"NO VERDICT: nginx\[1234\]: no events  \[..:..:..\] 5.0 s  /usr/sbin/nginx", line
    )
    unsure = replace(final, verdict=Verdict.UNSURE, reason="no allocator was found")
    line, why = lines_of(unsure)
    assert line.endswith("/usr/sbin/nginx  no events")
    assert why == "UNSURE: nginx[1234]: no allocator was found"
    [line] = lines_of(replace(final, heap=None))
    assert line.endswith("] nginx[1234]  5.0 s  /usr/sbin/nginx  no events")


def test_calls_that_have_not_returned_are_named_although_nothing_happened() -> None:
    blocked = SyscallStats("futex", 0, 0, 0, 0, 0, 0, unfinished=2)
    waiting = final_of(syscalls(blocked), None)
    [line] = lines_of(waiting)
    assert line.startswith("NO VERDICT: nginx[1234]: no events (unfinished: futex 2)  [")
    line, _ = lines_of(replace(waiting, verdict=Verdict.UNSURE))
    assert line.endswith("/usr/sbin/nginx  no events (unfinished: futex 2)")


def heap_line(heap: HeapStats) -> str:
    """The line about the heap. The process has also made a system call."""
    calls = syscalls(SyscallStats("dup", 1, 0, 50, 1, 1, 1))
    lines = lines_of(replace(calls, heap=heap), width=None)
    assert len(lines) == 6 or not lines[1].startswith("heap")
    return lines[1]


def test_one_is_singular_and_none_is_left_out() -> None:
    assert heap_line(HeapStats()).startswith("NAME")
    assert heap_line(HeapStats(5, 1, 1)) == "heap: 5 B live in 1 block; 1 alloc"
    assert heap_line(HeapStats(0, 0, 2, 0, 2)) == "heap: nothing live; 2 allocs, 2 frees"
    assert heap_line(HeapStats(failed_allocs=1, unknown_frees=1)) == (
        "heap: 1 failed alloc, 1 free of a block kwatch did not see allocated"
    )
    assert heap_line(HeapStats(9, 2, inherited=3, frees=1, unknown_frees=64)) == (
        "heap: 9 B live in 2 blocks; 3 blocks inherited at fork, 1 free,"
        " 64 frees of blocks kwatch did not see allocated"
    )
    assert heap_line(HeapStats(unknown_frees=64, thread_end_frees=64)) == (
        "heap: 64 frees by glibc as threads ended"
    )


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        (MemoryStats(mmap_calls=1, munmap_calls=1), ""),
        (MemoryStats(4096, 1, 1), "memory: 4.0 KiB in 1 mapping"),
        (MemoryStats(8192, 2, 2, 0, -4096), "memory: 8.0 KiB in 2 mappings, brk -4.0 KiB"),
        (MemoryStats(brk_bytes=4096), "memory: brk +4.0 KiB"),
    ],
)
def test_memory_is_named_only_if_there_is_some(memory: MemoryStats, said: str) -> None:
    lines = lines_of(replace(IDLE, memory=memory))[1:-1]
    assert [line.partition(" (")[0] for line in lines] == [said] * bool(said)


def test_the_verdict_is_the_last_line_and_in_color_if_asked() -> None:
    final = replace(heap(stack(1, 1)), kind="final", verdict=Verdict.LEAK, reason="LEAK it is")
    assert lines_of(final)[-2] == "LEAK: nginx[1234]: LEAK it is"
    assert lines_of(final, color=True)[-2] == "\033[1;31mLEAK\033[0m: nginx[1234]: LEAK it is"
    _, clean = lines_of(final_of(IDLE, Verdict.CLEAN), color=True)
    assert clean.startswith("\033[1;32mCLEAN\033[0m: nginx[1234]")
    assert "LEAK" not in "".join(lines_of(replace(final, kind="snapshot")))


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
        "                         [made by kwatch to launch the command]",
        "950 ns      2          (other stacks, beyond --top)",
        "",
    ]


@pytest.mark.parametrize("stacks", [None, ()])
def test_without_stacks_of_system_calls_nothing_is_said_of_them(stacks: None) -> None:
    summary = SyscallSummary(1, 0, (SyscallStats("dup", 1, 0, 50, 1, 1, 1),), stacks=stacks)
    assert not [line for line in lines_of(replace(IDLE, syscalls=summary)) if "WHERE" in line]


def test_a_mark_has_its_own_blocks_and_no_growth() -> None:
    before = heap(stack(1, 4096, INSERT))
    reach = BlockCounts(definite=1, reachable=2)
    marked = replace(
        heap(stack(1, 2048, INSERT, MAIN), stack(2, 1024, MAIN), younger=9000),
        kind="mark",
        mark=3,
        since_mark=SinceMark(2.5, 3, 3582, reach),
        memory=None,
        syscalls=None,
    )
    lines = lines_of(before, marked, before)
    start = lines.index("") + 2
    assert lines[start : start + 2] == [
        "mark 3: 3 blocks (3.5 KiB) allocated in the 2.5 s since mark 2 are outstanding:",
        "      1 definitely lost, 2 still reachable",
    ]
    assert rows_of(lines[start + 2 : start + 6]) == [
        ["BYTES", "BLOCKS", "AGE", "WHERE"],
        ["2.0 KiB", "1", "2.5 s", "insert cache.c:212"],
        ["main main.c:40"],
        ["1.0 KiB", "1", "2.5 s", "main main.c:40"],
    ]
    assert rows_of(lines[start + 6 : start + 7]) == [["510 B", "1", "(beyond --top)"]]
    assert "no new events" in lines[-1]
    nothing = replace(marked, since_mark=SinceMark(2.5, 0, 0), heap=HeapStats())
    assert lines_of(nothing)[1:] == [
        "mark 3: nothing that was allocated in the 2.5 s since mark 2 is outstanding",
        "",
    ]
