# SPDX-License-Identifier: Apache-2.0
"""What counts as a leak, and the sentence that gives the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kwatch.model.frame import Ending, Frame
from kwatch.model.snapshot import Lost, StackStats, Verdict
from kwatch.report.unsymbolized import NoSymbols
from kwatch.report.verdict import VerdictInput, judge
from kwatch.symbols.stack import Stack

PROGRAM = "/home/user/demo"
LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"

LEAK_HERE = Frame(0x1000, "leak_here", 5, PROGRAM, "/src/demo.c", 12)
STDIO = Frame(0x2000, "_IO_file_doallocate", 7, LIBC)
MALLOC = Frame(0x2500, "malloc", 7, LIBC)
STRDUP = Frame(0x2100, "strdup", 7, LIBC)
NEW = Frame(0x2200, "operator new(unsigned long)", 7, "/lib/libstdc++.so.6")
OWN_NEW = Frame(0x1500, "operator new(unsigned long)", 5, PROGRAM, "/src/demo.c", 90)
SETLOCALE = Frame(0x2300, "setlocale", 7, LIBC)
OWN_LIBRARY = Frame(0x3000, "render", 7, "/opt/app/librender.so")
NO_NAME = Frame(0x4000)
LOADER = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
DTV = Frame(0x5000, "allocate_dtv", 7, LOADER, "dl-tls.c", 401)
RESIZE = Frame(0x1000, "resize", 5, PROGRAM, "/usr/include/c++/12/bits/stl_vector.h", 11)

ZMALLOC = Frame(0x1000, "zmalloc", 5, PROGRAM, "/src/zmalloc.c", 101)
ZDUP = Frame(0x1100, "zstrdup", 5, PROGRAM, "/src/zmalloc.c", 404)

STATIC_LIBC = (
    Frame(0x1200, "__libc_alloc_buffer_allocate", 5, PROGRAM),
    Frame(0x1300, "__nss_database_get", 5, PROGRAM),
    Frame(0x1400, "getpwnam", 5, PROGRAM),
)
STATIC_START = Frame(0x1800, "__libc_start_call_main", 5, PROGRAM)
OWN_GETPWNAM = Frame(0x1400, "getpwnam", 5, PROGRAM)
STATIC_STRDUP = Frame(0x1400, "strdup", 5, PROGRAM)
OWN_SETENV = Frame(0x1410, "setenv", 5, PROGRAM)
UNDERSCORE = Frame(0x1420, "_insert", 5, PROGRAM)
SCANNER = Frame(0x2400, "scan_something", 7, LIBC)
SETENV = Frame(0x2410, "setenv", 7, LIBC)
GLIB_MALLOC = Frame(0x2600, "g_malloc", 7, "/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0")
GTK = Frame(0x2700, "gtk_init", 7, "/usr/lib/x86_64-linux-gnu/libgtk-4.so.1")
DL_OPEN = (
    Frame(0x5100, "__strdup", 7, LIBC),
    Frame(0x5200, "_dl_new_object", 7, LOADER),
    Frame(0x5300, "dlopen", 7, LIBC),
)
GENERATED = Frame(0x6000, "", 0, "//anon")


def stack(*frames, blocks=1, size=100):
    return StackStats(1, blocks * size, blocks, 9.0, (), (), frames)


def verdict(*stacks, **circumstances):
    given = {"program": PROGRAM, "exited": True} | circumstances
    outstanding = tuple((row, Stack(frames=row.frames)) for row in stacks)
    return judge(VerdictInput(outstanding, **given), NoSymbols())


@pytest.mark.parametrize(
    ("outstanding", "expected"),
    [
        (stack(LEAK_HERE), Verdict.LEAK),
        (stack(OWN_LIBRARY), Verdict.LEAK),
        (stack(STDIO, LEAK_HERE), Verdict.CLEAN),
        (stack(STRDUP, LEAK_HERE, blocks=2), Verdict.LEAK),
        (stack(NEW, LEAK_HERE), Verdict.LEAK),
        (stack(NEW, STDIO), Verdict.CLEAN),
        (stack(), Verdict.UNSURE),
        (stack(blocks=5), Verdict.UNSURE),
        (stack(NO_NAME), Verdict.UNSURE),
        (stack(NO_NAME, blocks=2), Verdict.LEAK),
        (stack(DTV, LEAK_HERE, blocks=8), Verdict.CLEAN),
        (stack(STRDUP, SETLOCALE, LEAK_HERE, blocks=12), Verdict.CLEAN),
        (stack(STRDUP, LEAK_HERE, SETLOCALE, blocks=12), Verdict.LEAK),  # its own setlocale
        (stack(*STATIC_LIBC, LEAK_HERE, STATIC_START, blocks=12), Verdict.CLEAN),
        (stack(OWN_GETPWNAM, LEAK_HERE), Verdict.LEAK),  # its own getpwnam
        (stack(OWN_SETENV, LEAK_HERE, STATIC_START, blocks=12), Verdict.CLEAN),
        (stack(UNDERSCORE, LEAK_HERE), Verdict.LEAK),
        (stack(UNDERSCORE, LEAK_HERE, STATIC_START), Verdict.CLEAN),
        (stack(STRDUP, LEAK_HERE), Verdict.LEAK),
        (stack(STRDUP, GTK, LEAK_HERE), Verdict.CLEAN),
        (stack(STRDUP), Verdict.UNSURE),
        (replace(stack(STRDUP, blocks=20), ending=Ending.NO_ROW), Verdict.UNSURE),
        (replace(stack(STRDUP, blocks=20_000), ending=Ending.NO_ROW), Verdict.LEAK),
        (replace(stack(SCANNER), ending=Ending.NO_ROW), Verdict.UNSURE),
        (replace(stack(SETENV, blocks=20), ending=Ending.NO_ROW), Verdict.CLEAN),
        (stack(SCANNER, LEAK_HERE), Verdict.CLEAN),
        (stack(SCANNER, LEAK_HERE, blocks=2), Verdict.LEAK),
        (stack(*DL_OPEN, LEAK_HERE, blocks=12), Verdict.CLEAN),
        (stack(SETENV, LEAK_HERE, blocks=1000), Verdict.CLEAN),
        (stack(SETENV, LEAK_HERE, blocks=1000, size=2000), Verdict.LEAK),
        (stack(GLIB_MALLOC, LEAK_HERE), Verdict.LEAK),
        (stack(GLIB_MALLOC, GTK, LEAK_HERE), Verdict.CLEAN),
        (stack(GENERATED, LEAK_HERE), Verdict.UNSURE),
    ],
)
def test_a_leak_is_the_programs_own_or_repeated(outstanding, expected):
    assert verdict(outstanding)[0] is expected


def test_nothing_outstanding_is_clean():
    assert verdict() == (Verdict.CLEAN, "no outstanding block is old enough to count")
    reason = "no outstanding block within --min-size and --max-size is old enough to count"
    assert verdict(some_sizes=True) == (Verdict.CLEAN, reason)


def test_a_program_among_the_system_libraries_is_still_the_program():
    daemon = "/usr/lib/postgresql/bin/postgres"
    outstanding = stack(Frame(1, "palloc", 0, daemon))
    assert verdict(outstanding, program=daemon)[0] is Verdict.LEAK


@pytest.mark.parametrize(
    ("cause", "count", "reason"),
    [
        ("control_ring_full", 1, "1 event of the heap was lost (control ring full)"),
        (
            "heap_ring_full",
            3000,
            "3,000 events of the heap were lost (heap ring full); a larger --buffer may help",
        ),
    ],
)
def test_lost_events_leave_it_open(cause, count, reason):
    lost = Lost(count, {cause: count})
    assert verdict(stack(LEAK_HERE), lost=lost) == (Verdict.UNSURE, reason)


def test_without_any_event_there_is_no_verdict():
    """A leak or a gap is one all the same."""
    reason = "nothing was allocated or freed while kwatch traced"
    assert verdict(has_events=False) == (None, reason)
    assert verdict(has_events=False, doubts=("why",))[0] is Verdict.UNSURE
    assert verdict(stack(LEAK_HERE), has_events=False)[0] is Verdict.LEAK


def test_missing_probes_leave_it_open():
    """Unless a leak is known already."""
    gap = "these functions could not be probed: malloc"
    assert verdict(doubts=(gap,)) == (Verdict.UNSURE, gap)
    assert verdict(stack(), doubts=(gap,)) == (Verdict.UNSURE, gap)
    assert verdict(doubts=(gap, "more")) == (Verdict.UNSURE, f"{gap}; more")


def test_a_leak_may_not_be_all():
    known, reason = verdict(stack(LEAK_HERE), doubts=("40 MiB grew unseen", "more"))
    assert known is Verdict.LEAK
    assert reason.endswith("was never freed; besides, 40 MiB grew unseen")


def test_blocks_of_libraries_alone_are_clean():
    reason = "only blocks that system libraries keep are outstanding"
    assert verdict(stack(STDIO, LEAK_HERE)) == (Verdict.CLEAN, reason)


def test_without_stacks_nobody_can_be_blamed():
    row = replace(stack(blocks=5), ending=Ending.OFF)
    reason = "without stacks, kwatch cannot tell what allocated 5 blocks (500 B)"
    assert verdict(row) == (Verdict.UNSURE, reason)


def test_a_known_leak_outweighs_an_unknown_stack():
    assert verdict(stack(), stack(LEAK_HERE))[0] is Verdict.LEAK


@pytest.mark.parametrize(
    ("outstanding", "exited", "reason"),
    [
        (
            [stack(LEAK_HERE, blocks=101)],
            True,
            "101 blocks (9.9 KiB) from leak_here (demo.c:12) were never freed",
        ),
        (
            [stack(OWN_LIBRARY, size=9), stack(LEAK_HERE)],
            False,
            "1 block (9 B) from render (librender.so) is still not freed, "
            "and more from 1 other stack",
        ),
        (
            [stack(NO_NAME, blocks=2)] * 3,
            True,
            "2 blocks (200 B) from code in no known file (0x4000) were never freed,"
            " and more from 2 other stacks",
        ),
        (
            [stack(NEW, RESIZE, LEAK_HERE), stack(STRDUP, LEAK_HERE, blocks=2)],
            True,
            "1 block (100 B) from leak_here (demo.c:12) was never freed, "
            "and more from 1 other stack",
        ),
        (
            [stack(ZMALLOC, ZDUP, LEAK_HERE)],
            True,
            "1 block (100 B) from leak_here (demo.c:12) through zmalloc (zmalloc.c:101)"
            " was never freed",
        ),
        (
            [stack(ZMALLOC, ZDUP)],
            True,
            "1 block (100 B) from zmalloc (zmalloc.c:101) was never freed",
        ),
        (
            [stack(STRDUP, OWN_NEW, LEAK_HERE, blocks=2)],
            True,
            "2 blocks (200 B) from leak_here (demo.c:12) were never freed",
        ),
        (
            [stack(SCANNER, STRDUP, LEAK_HERE, blocks=2)],
            True,
            "2 blocks (200 B) from leak_here (demo.c:12) through strdup (libc.so.6)"
            " were never freed",
        ),
        (
            [stack(MALLOC, LEAK_HERE)],
            True,
            "1 block (100 B) from leak_here (demo.c:12) was never freed",
        ),
        (
            [stack(NO_NAME, LEAK_HERE, blocks=2)],
            True,
            "2 blocks (200 B) from leak_here (demo.c:12) through code in no known file (0x4000)"
            " were never freed",
        ),
        (
            [stack(GENERATED, blocks=2)],
            True,
            "2 blocks (200 B) from code in no known file (0x6000) were never freed",
        ),
        (
            [stack(GENERATED, LEAK_HERE)],
            True,
            "code in no known file allocated 1 block (100 B)",
        ),
        (
            [stack(STATIC_STRDUP, LEAK_HERE, STATIC_START)],
            True,
            "1 block (100 B) from leak_here (demo.c:12) through strdup (demo) was never freed",
        ),
        (
            [replace(stack(STRDUP, blocks=20), ending=Ending.NO_ROW)],
            True,
            "the stack of 20 blocks (2.0 KiB) is cut in strdup (libc.so.6): its caller is unknown",
        ),
        ([stack()], True, "the caller that allocated 1 block (100 B) is unknown"),
    ],
)
def test_the_reason_names_the_largest_stack(outstanding, exited, reason):
    assert verdict(*outstanding, exited=exited)[1] == reason


def test_what_was_under_way_when_a_signal_came():
    reason = verdict(stack(LEAK_HERE), killed_by="SIGKILL")[1]
    assert reason == "1 block (100 B) from leak_here (demo.c:12) was not freed before SIGKILL"
