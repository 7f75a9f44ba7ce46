# SPDX-License-Identifier: Apache-2.0
"""Stacks of an imagined program, and the verdict on them."""

from __future__ import annotations

from dataclasses import replace

from kwatch.model.frame import Ending, Frame
from kwatch.model.reach import Amount, BlockCounts, HeapReach
from kwatch.model.snapshot import StackStats
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
OWN_LIBRARY = Frame(0x3000, "render", 7, "/opt/app/librender.so")
NO_NAME = Frame(0x4000)
LOADER = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
RESIZE = Frame(0x1000, "resize", 5, PROGRAM, "/usr/include/c++/12/bits/stl_vector.h", 11)

ZMALLOC = Frame(0x1000, "zmalloc", 5, PROGRAM, "/src/zmalloc.c", 101)
ZDUP = Frame(0x1100, "zstrdup", 5, PROGRAM, "/src/zmalloc.c", 404)

STATIC_START = Frame(0x1800, "__libc_start_call_main", 5, PROGRAM)
STATIC_STRDUP = Frame(0x1400, "strdup", 5, PROGRAM)
SCANNER = Frame(0x2400, "scan_something", 7, LIBC)


def lost(*frames, blocks=1, size=100, held=0, ending=Ending.LOST):
    """A stack that lost blocks and holds others."""
    return StackStats(
        *(1, (blocks + held) * size, blocks + held, 9.0, (), (), frames, ending),
        reach=BlockCounts(definite=blocks, reachable=held),
        lost_bytes=blocks * size,
        direct=Amount(blocks, blocks * size),
    )


def held(*frames, blocks=1):
    return lost(*frames, blocks=0, held=blocks)


NOTHING = Amount()


def scanned(stacks, earlier=NOTHING, **facts):
    """What the scan of a heap with these stacks finds. `earlier`: lost before the attach."""
    blocks = earlier.blocks + sum(row.reach.definite for row in stacks)
    size = earlier.bytes + sum(row.lost_bytes for row in stacks)
    reachable = sum(row.reach.reachable for row in stacks)
    return HeapReach(
        definite=Amount(blocks, size),
        **{"reachable": Amount(reachable, 100 * reachable), "is_settled": True, "scans": 5} | facts,
    )


def verdict(*stacks, reach=None, **circumstances):
    rows = tuple(
        (replace(row, stack=number), Stack(frames=row.frames)) for number, row in enumerate(stacks)
    )
    given = {
        "program": PROGRAM,
        "reach": reach or scanned(stacks),
        "live_blocks": sum(row.blocks for row in stacks),
    }
    return judge(VerdictInput(rows, **given | circumstances), NoSymbols())


def unscanned(*stacks, error=""):
    return verdict(*stacks, reach=HeapReach(error=error or "its memory is gone"))
