# SPDX-License-Identifier: Apache-2.0
"""What `kwatch leaks` says about a scan."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from kwatch.commands.leaks.allocators import unlisted, why_not_walked
from kwatch.commands.leaks.report import blocks, groups, unheld, verdict
from kwatch.model.leaks import LeakReport
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount, HeapReach, Reach
from kwatch.model.snapshot import Verdict
from kwatch.probes.allocator_names import GLIBC, GO, NamedAllocator
from kwatch.reach.block_table import SCANNED
from kwatch.reach.summary import with_amounts
from kwatch.sinks.leaks import json_line, text

WALKED = HeapReach(is_walked=True, is_settled=True, scans=5, seconds=0.25)


def table(*rows):
    """Blocks of these sizes and classes, by address."""
    made = [(0x1000 * (n + 1), size, reach, False, False) for n, (size, reach) in enumerate(rows)]
    return np.array(made, SCANNED)


def test_blocks_are_grouped_by_class_and_size_the_lost_ones_first():
    found = by_type(
        unheld(
            table(
                (8, Reach.POSSIBLE),
                (24, Reach.DEFINITE),
                (4000, Reach.REACHABLE),
                (24, Reach.DEFINITE),
                (16, Reach.INDIRECT),
                (900, Reach.DEFINITE),
            )
        )
    )
    assert [(one.class_name, one.size, one.blocks, one.bytes) for one in found] == [
        ("definite", 900, 1, 900),
        ("definite", 24, 2, 48),
        ("indirect", 16, 1, 16),
        ("possible", 8, 1, 8),
    ]
    assert found[1].addresses == (0x2000, 0x4000)


def test_groups_list_some_of_their_blocks():
    (group,) = by_type(table(*[(24, Reach.DEFINITE)] * 100))
    assert (group.blocks, len(group.addresses)) == (100, 16)
    assert by_type(table()) == ()


def test_every_block_has_its_class():
    first, second = blocks(table((8, Reach.REACHABLE), (16, Reach.POSSIBLE)))
    assert (first.address, first.size, first.class_name, first.exact) == (
        *(0x1000, 8, "reachable"),
        False,
    )
    assert second.class_name == "possible"


def by_type(rows, numbers=None, types=("",)):
    return groups(rows, np.zeros(len(rows), np.intp) if numbers is None else numbers, list(types))


def reach(*rows, **facts):
    return with_amounts(HeapReach(**{"is_walked": True, "is_settled": True} | facts), table(*rows))


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        (
            reach((24, Reach.DEFINITE), (8, Reach.INDIRECT), unwalked=("an arena",)),
            (Verdict.LEAK, "2 blocks (32 B) are lost: no pointer leads to them"),
        ),
        (
            reach((24, Reach.DEFINITE)),
            (Verdict.LEAK, "1 block (24 B) is lost: no pointer leads to it"),
        ),
        (
            reach((24, Reach.DEFINITE), blind_threads=1, unreadable=4096),
            (
                Verdict.UNSURE,
                "1 block (24 B) is lost: no pointer leads to it, unless the registers of 1 thread "
                "that kwatch could not read or 4.0 KiB of memory that could not be read hold one",
            ),
        ),
        (
            reach((24, Reach.DEFINITE), is_settled=False, scans=40),
            (
                Verdict.UNSURE,
                "1 block (24 B) is lost: no pointer leads to it; "
                "which blocks are lost kept changing over 40 scans",
            ),
        ),
        (reach((24, Reach.REACHABLE)), (Verdict.CLEAN, "the one block is held")),
        (reach(*[(24, Reach.REACHABLE)] * 3), (Verdict.CLEAN, "all 3 blocks are held")),
        (reach(), (Verdict.CLEAN, "no block is outstanding")),
        (
            reach(unwalked=("an arena",)),
            (Verdict.UNSURE, "a part of the heap could not be read: an arena"),
        ),
        (
            reach(unreadable=8192),
            (Verdict.UNSURE, "8.0 KiB of its memory could not be read"),
        ),
    ],
)
def test_the_verdict(scan, expected):
    assert verdict(scan, "") == expected


OTHER = "its blocks are elsewhere"


def test_blocks_that_are_not_listed_leave_it_unsure():
    assert verdict(HeapReach(), OTHER) == (Verdict.UNSURE, OTHER)
    assert verdict(reach((24, Reach.REACHABLE)), OTHER) == (Verdict.UNSURE, OTHER)
    assert verdict(reach((24, Reach.DEFINITE)), OTHER)[0] is Verdict.LEAK


GLIBC_ALONE = NamedAllocator(GLIBC, "libc.so.6", True)
JEMALLOC = NamedAllocator("jemalloc", "app", True)
GO_ALONE = NamedAllocator(GO, "app", True)


def test_the_allocator_is_named_with_a_cure():
    reason = why_not_walked([GLIBC_ALONE, JEMALLOC], 7)
    assert reason.startswith("its allocator is jemalloc (app), whose blocks kwatch cannot list; ")
    assert reason.endswith("trace it: kwatch --pid 7")
    assert why_not_walked([GLIBC_ALONE], 7).startswith("it has allocated nothing with glibc")
    assert "no allocator" in why_not_walked([], 7)
    assert "runtime/pprof" in why_not_walked([GO_ALONE], 7)


def test_an_allocator_beside_glibc_counts_if_it_is_in_use():
    assert unlisted([GLIBC_ALONE], 7) == ""
    assert unlisted([GLIBC_ALONE, JEMALLOC], 7).startswith("it also has jemalloc (app), ")
    assert unlisted([GLIBC_ALONE, NamedAllocator("mimalloc", "python3.13", False)], 7) == ""
    assert unlisted([GLIBC_ALONE, GO_ALONE], 7) == ""


def test_groups_have_one_type():
    rows = table(*[(24, Reach.DEFINITE)] * 3)
    found = by_type(rows, np.array([1, 0, 1]), ("", "Session"))
    assert [(one.type, one.blocks) for one in found] == [("Session", 2), ("", 1)]
    shown = text(replace(REPORT, groups=(replace(found[0], content="GET / "),)))
    assert '  0x1000 0x3000 Session "GET / "' in shown


REPORT = LeakReport(
    time="2026-01-31T12:00:00.000Z",
    process=ProcessFacts(7, 1.0, "app", "/bin/app"),
    reach=with_amounts(WALKED, table((24, Reach.DEFINITE), (8, Reach.REACHABLE))),
    groups=by_type(table((24, Reach.DEFINITE))),
    verdict=Verdict.LEAK,
    reason="1 block (24 B) is lost: no pointer leads to it",
    blocks=blocks(table((24, Reach.DEFINITE))),
)


def test_the_json_has_the_documented_keys():
    found = json.loads(json_line(REPORT))
    assert (found["kind"], found["verdict"], found["process"]["pid"]) == ("leaks", "leak", 7)
    heap = found["heap"]
    assert heap["reach"]["definite"] == {"blocks": 1, "bytes": 24}
    assert heap["reach"]["reachable"] == {"blocks": 1, "bytes": 8}
    assert heap["reach"]["is_walked"] is True
    [group] = heap["groups"]
    assert group == {
        "class": "definite",
        "size": 24,
        "blocks": 1,
        "bytes": 24,
        "addresses": ["0x1000"],
        "type": "",
        "content": None,
    }
    assert heap["blocks"] == [
        {"address": "0x1000", "size": 24, "class": "definite", "exact": False}
    ]


def test_the_text_says_it_in_a_few_lines():
    assert Amount(1, 24) == REPORT.reach.lost
    lines = text(REPORT).splitlines()
    assert lines[0].endswith("app[7]  /bin/app")
    assert lines[1:] == [
        "scan: 1 block (24 B) definitely lost, 1 block (8 B) still reachable; 5 scans in 250.0 ms",
        "BYTES  BLOCKS  SIZE     CLASS  ADDRESSES",
        " 24 B       1  24 B  definite  0x1000",
        "LEAK: 1 block (24 B) is lost: no pointer leads to it",
        "",
    ]
