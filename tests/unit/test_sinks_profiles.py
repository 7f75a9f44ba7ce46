# SPDX-License-Identifier: Apache-2.0
"""Profiles in each format, with known answers; pprof's with Google's own decoder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from harness.profile_proto import Pprof

from kwatch.model.frame import Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import HeapProfile, Lost, ProfileMapping, Snapshot, StackTotals
from kwatch.sinks.profiles.flamegraph import flamegraph
from kwatch.sinks.profiles.folded import folded
from kwatch.sinks.profiles.pprof import pprof
from kwatch.sinks.profiles.speedscope import speedscope
from kwatch.sinks.profiles.unit import Format, ProcessProfile, unit_of

APP, LIBRARY = "/usr/bin/app", "/usr/lib/libz.so.1"
CODE = (
    ProfileMapping(0x400000, 0x500000, 0x1000, APP, "c0ffee"),
    ProfileMapping(0x7F0000, 0x7F8000, 0, LIBRARY),
)
MAIN = Frame(0x400100, "main", 0x10, APP, "/src/main.c", 40)
GROW = Frame(0x400200, "grow", 0x20, APP, "/src/cache.c", 12)
INNER = Frame(0x400200, "checked(int)", 0x20, APP, "/src/check.h", 3, inlined=True)
UNNAMED = Frame(0x7F1235, "", 0x1235, LIBRARY)
STACKS = (
    StackTotals(1, 10, 1000, 4, 400, (INNER, GROW, MAIN)),
    StackTotals(2, 5, 50, 0, 0, (UNNAMED, MAIN)),
    StackTotals(3, 2, 7, 2, 7),
)
UNIT = ProcessProfile("app[7]", 7, HeapProfile(STACKS, CODE), 1_700_000_000 * 10**9, 5 * 10**9)
CHILD = replace(UNIT, name="child[8]", pid=8, profile=HeapProfile(STACKS[:1], CODE))
FORMATS = [folded, pprof, speedscope, flamegraph]


def test_folded_stacks_hold_the_outstanding_bytes_from_the_root_on() -> None:
    assert folded([UNIT, CHILD]).decode().splitlines() == [
        "app[7];[stack lost] 7",
        "app[7];main;grow;checked(int)_[i] 400",
        "child[8];main;grow;checked(int)_[i] 400",
    ]


def test_stacks_that_fold_to_the_same_line_are_added() -> None:
    later = replace(GROW, address=0x400999, line=99)
    stacks = [replace(STACKS[0], frames=(frame, MAIN)) for frame in (GROW, later)]
    unit = replace(UNIT, profile=HeapProfile(tuple(stacks)))
    assert folded([unit]) == b"app[7];main;grow 800\n"


def test_semicolons_divide_nothing_but_frames() -> None:
    frames = (Frame(1, "<[u8; 4] as Clone>::clone"), MAIN)
    unit = replace(UNIT, profile=HeapProfile((StackTotals(1, 1, 5, 1, 5, frames),)))
    assert folded([unit]) == b"app[7];main;<[u8: 4] as Clone>::clone 5\n"


def test_pprof_has_the_figures_of_go() -> None:
    profile = Pprof(pprof([UNIT]))
    assert profile.sample_types == [
        "alloc_objects/count",
        "alloc_space/bytes",
        "inuse_objects/count",
        "inuse_space/bytes",
    ]
    assert profile.strings[profile.raw.default_sample_type] == "inuse_space"
    assert profile.raw.time_nanos == UNIT.time_ns
    assert profile.raw.duration_nanos == UNIT.duration_ns
    assert (profile.raw.period, profile.strings[profile.raw.period_type.unit]) == (1, "bytes")
    assert profile.unknown_fields() == 0


def test_pprof_has_every_stack_with_its_lines() -> None:
    assert Pprof(pprof([UNIT])).stacks() == {
        (
            ("checked(int) /src/check.h:3", "grow /src/cache.c:12"),
            ("main /src/main.c:40",),
            ("app[7] :0",),
        ): [10, 1000, 4, 400],
        (("libz.so.1+0x1235 :0",), ("main /src/main.c:40",), ("app[7] :0",)): [5, 50, 0, 0],
        (("[stack lost] :0",), ("app[7] :0",)): [2, 7, 2, 7],
    }


def test_locations_lie_in_the_call_and_in_their_mapping() -> None:
    profile = Pprof(pprof([UNIT]))
    grow, unnamed = map(profile.location, ("checked(int) /src/check.h:3", "libz.so.1+0x1235 :0"))
    assert (grow.address, unnamed.address) == (0x4001FF, 0x7F1234)
    app = profile.mappings[grow.mapping_id]
    assert (app.memory_start, app.memory_limit, app.file_offset) == (0x400000, 0x500000, 0x1000)
    assert profile.strings[app.filename] == APP
    assert profile.strings[app.build_id] == "c0ffee"
    library = profile.mappings[unnamed.mapping_id]
    assert profile.strings[library.filename] == LIBRARY
    assert profile.strings[library.build_id] == ""


@pytest.mark.parametrize("frame", [replace(GROW, module="/other"), replace(GROW, address=0x300000)])
def test_code_that_is_no_longer_mapped_is_in_no_mapping(frame: Frame) -> None:
    unit = replace(UNIT, profile=HeapProfile((replace(STACKS[0], frames=(frame,)),), CODE))
    assert Pprof(pprof([unit])).location("grow /src/cache.c:12").mapping_id == 0


def test_addresses_of_different_processes_are_different_locations() -> None:
    profile = Pprof(pprof([UNIT, CHILD]))
    assert len(profile.stacks()) == 4
    assert len(profile.mappings) == 4
    mains = [row for row in profile.raw.location if profile.lines(row.id)[0].startswith("main")]
    assert len({row.mapping_id for row in mains}) == 2
    assert profile.labels() == {
        (("process", "app[7]"), ("pid", 7)),
        (("process", "child[8]"), ("pid", 8)),
    }


def test_speedscope_has_four_profiles_of_each_process() -> None:
    document = json.loads(speedscope([UNIT, CHILD]))
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert document["shared"]["frames"] == [
        {"name": "main", "file": "/src/main.c", "line": 40},
        {"name": "grow", "file": "/src/cache.c", "line": 12},
        {"name": "checked(int) (inlined)", "file": "/src/check.h", "line": 3},
        {"name": "libz.so.1+0x1235", "file": LIBRARY},
        {"name": "[stack lost]"},
    ]
    assert [(p["name"], p["unit"], p["endValue"]) for p in document["profiles"]] == [
        ("app[7] outstanding bytes", "bytes", 407),
        ("app[7] outstanding blocks", "none", 6),
        ("app[7] allocated bytes", "bytes", 1057),
        ("app[7] allocated blocks", "none", 17),
        ("child[8] outstanding bytes", "bytes", 400),
        ("child[8] outstanding blocks", "none", 4),
        ("child[8] allocated bytes", "bytes", 1000),
        ("child[8] allocated blocks", "none", 10),
    ]
    outstanding, allocated = document["profiles"][0], document["profiles"][2]
    assert (outstanding["samples"], outstanding["weights"]) == ([[0, 1, 2], [4]], [400, 7])
    assert allocated["weights"] == [1000, 50, 7]
    assert {p["type"] for p in document["profiles"]} == {"sampled"}


def hostile() -> ProcessProfile:
    name = 'a\n\t\0\udcff"</script><script>{{data}}\u2028é'
    frames = (Frame(1, name, 0, name, name, 1), Frame(2**64 - 1), Frame(0, "", 0, "/"))
    code = ProfileMapping(0, 2**64 - 1, 0, "\udcff")
    snapshot = Snapshot(
        kind="final",
        time="2026-01-31T12:00:00.123Z",
        elapsed_s=0.5,
        process=ProcessFacts(9, 1.0, "{{data}}\n\udcff;<b>", "/bin/x"),
        heap=None,
        memory=None,
        syscalls=None,
        lost=Lost(),
        verdict=None,
        profile=HeapProfile((StackTotals(1, 2**62, 2**62, 1, 2**62, frames),), (code,)),
    )
    return unit_of(snapshot)


def test_names_are_whatever_a_program_chooses() -> None:
    unit = hostile()
    assert unit.time_ns == 1_769_860_800_123 * 10**6
    cleaned = 'a\ufffd\ufffd\ufffd\ufffd"</script><script>{{data}}\ufffdé'
    root = "{{data}}\ufffd\ufffd;<b>[9]"
    unnamed = "0xffffffffffffffff"
    expected = ";".join([root.replace(";", ":"), "0x0", unnamed, cleaned])
    assert folded([unit]).decode() == f"{expected} {2**62}\n"
    assert [stack[-1] for stack in Pprof(pprof([unit])).stacks()] == [(f"{root} :0",)]
    assert json.loads(speedscope([unit]))["shared"]["frames"][-1]["name"] == cleaned
    page = flamegraph([unit]).decode()
    assert page.count("<script") == page.count("</script>") == 2
    assert page.count("{{data}}") == 4  # in the data: title, process, function and file


def test_where_nothing_is_outstanding_what_was_allocated_is_shown_first() -> None:
    unit = replace(UNIT, profile=HeapProfile(STACKS[1:2], CODE))
    document = json.loads(speedscope([unit]))
    assert document["profiles"][document["activeProfileIndex"]]["name"] == "app[7] allocated bytes"
    assert b'"shown":1,' in flamegraph([unit])
    assert b'"shown":3,' in flamegraph([UNIT])


@pytest.mark.parametrize("made", [pprof, speedscope, flamegraph])
def test_losses_are_told(made: Format) -> None:
    lossy = made([replace(UNIT, lost=3)])
    text = "3 events were lost: totals are lower bounds"
    said = Pprof(lossy).strings if made is pprof else lossy.decode()
    assert text in said
    assert text not in (Pprof(made([UNIT])).strings if made is pprof else made([UNIT]).decode())


def test_the_same_profile_gives_the_same_bytes() -> None:
    assert all(made([UNIT, CHILD]) == made([UNIT, CHILD]) for made in FORMATS)
