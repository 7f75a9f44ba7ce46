# SPDX-License-Identifier: Apache-2.0
"""The blocks of an allocation site are watched one after another; no other access counts."""

from __future__ import annotations

import signal

import psutil
import pytest
from harness.waiting import wait_until

WATCH = ("watchpoint", "make_node+16", "--json")
WRITES = 7


def watching(kwatch, number, address):
    """Waits until these bytes of the block of this number are watched."""
    document = kwatch.document(lambda each: each["kind"] == "watching" and each["block"] == number)
    assert document["address"] == hex(address)


def final_of(result):
    (final,) = (each for each in result.documents if each["kind"] == "final")
    assert final["missed"] == 0
    return final


def rounds(target, kwatch):
    """Lets the program go through its rounds; each waits until its block is watched."""
    for number in (1, 2, 3):
        watching(kwatch, number, target.go("begun")["block"] + 16)
        target.go("wrote")
    watching(kwatch, 4, target.go("begun")["block"] + 16)


def test_only_the_blocks_of_the_site(start, run_kwatch):
    """A block that is freed and given out again at once belongs to another site."""
    target = start("nodes")
    kwatch = run_kwatch(*WATCH, "--pid", target.pid)
    kwatch.attached()
    rounds(target, kwatch)
    assert target.go()["same"] == 3
    target.end()
    final = final_of(kwatch.finish())
    (place,) = (each for each in final["places"] if not each["by_allocator"])
    assert (place["count"], place["block_size"]) == (3 * WRITES, 40)
    assert place["threads"] == {str(target.pid): 3 * WRITES}
    assert [frame["symbol"] for frame in place["frames"]][:2] == ["scribble", "main"]
    assert "make_node" in [frame["symbol"] for frame in place["allocated"]]
    assert final["blocks"] == 4


def test_by_source_line(start, run_kwatch):
    target = start("nodes")
    kwatch = run_kwatch("watchpoint", "nodes.c:18+16:8", "--json", "--pid", target.pid)
    kwatch.attached()
    rounds(target, kwatch)
    target.go()
    target.end()
    places = final_of(kwatch.finish())["places"]
    assert sum(each["count"] for each in places if not each["by_allocator"]) == 3 * WRITES


def test_stop_at_a_hit(start, run_kwatch):
    target = start("nodes")
    kwatch = run_kwatch("watchpoint", "make_node+16", "--on-hit", "stop", "--pid", target.pid)
    kwatch.attached()
    target.go("begun")
    kwatch.said(lambda line: "watching 8 bytes" in line)
    target.go("wrote")
    kwatch.said(lambda line: line.endswith(f"kill -CONT {target.pid}"))
    process = psutil.Process(target.pid)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
    kwatch.stop()
    process.resume()
    target.go("begun")


def test_a_good_program_is_not_stopped(start, run_kwatch):
    """Only the allocator accesses its freed block."""
    target = start("stale", "good")
    options = ("freed:make_node", "--access", "rw", "--on-hit", "stop", "--json")
    kwatch = run_kwatch("watchpoint", *options, "--pid", target.pid)
    kwatch.attached()
    block = target.go("begun")["block"]
    target.go("freed")
    watching(kwatch, 1, block)
    target.go()
    target.end()
    result = kwatch.finish()
    places = final_of(result)["places"]
    assert places
    assert all(place["by_allocator"] for place in places)
    assert not any("kwatch: stopped" in line for line in result.stderr)


@pytest.mark.parametrize("loses", [True, False])
def test_a_hit_after_lost_events_is_unsure(start, run_kwatch, loses):
    """One of them may have been the free of the block, whose next owner hits it, too."""
    target = start("stale", "many")
    buffer = ("--buffer", "4K") if loses else ()
    kwatch = run_kwatch("watchpoint", "make_node+16:4", "--json", *buffer, "--pid", target.pid)
    kwatch.attached()
    watching(kwatch, 1, target.go("begun")["block"] + 16)
    if loses:
        kwatch.send(signal.SIGSTOP)
    target.go("kept")
    if loses:
        kwatch.send(signal.SIGCONT)
    target.go("freed")
    target.end()
    final = final_of(kwatch.finish())
    places = [each for each in final["places"] if not each["by_allocator"]]
    assert [each["unsure"] for each in places] == [loses] * len(places)
    hits = sum(each["count"] for each in places)
    assert hits > 3 if loses and len(places) > 1 else hits == 3
    assert (final["lost"].get("heap_ring_full", 0) > 0) is loses


@pytest.mark.parametrize(
    ("site", "what", "cure"),
    [
        ("make_nod", "named make_nod", "do you mean make_node"),
        ("make_node+40:8", "no block from make_node has the bytes", "a smaller offset"),
        ("nodes.c:1", "no allocation had nodes.c:1 in its stack", "longer"),
    ],
)
def test_bad_sites(start, run_kwatch, site, what, cure):
    target = start("nodes")
    kwatch = run_kwatch("watchpoint", site, "--pid", target.pid)
    if "nod:" not in f"{site}:":
        kwatch.attached()
        target.go("begun")
        target.kill()
    result = kwatch.finish()
    assert result.status == 1
    assert what in result.stderr[-2]
    assert cure in result.stderr[-1]


def program_writes(result):
    """The numbers of hits outside the allocator, with the two innermost functions."""
    return {
        (place["part"], *(frame["symbol"] for frame in place["frames"][:2])): place["count"]
        for place in final_of(result)["places"]
        if not place["by_allocator"]
    }


def run_stale(start, run_kwatch, what, site, stage):
    """Waits at the stage until the watchpoint is set."""
    target = start("stale", what)
    kwatch = run_kwatch("watchpoint", site, "--json", "--pid", target.pid)
    kwatch.attached()
    block = target.go("begun")["block"]
    if stage == "freed":
        target.go("freed")
    watching(kwatch, 1, block + (16 if stage == "freed" else 36))
    if stage != "freed":
        target.go("freed")
    assert target.go()["same"] == 1
    target.end()
    return kwatch.finish()


@pytest.mark.parametrize(("what", "expected"), [("freed", 7), ("good", 0)])
def test_a_freed_block(start, run_kwatch, what, expected):
    """Until it is given out again: its next owner's writes do not count."""
    found = program_writes(run_stale(start, run_kwatch, what, "freed:make_node+16:4", "freed"))
    assert found == ({("freed", "scribble", "main"): expected} if expected else {})


@pytest.mark.parametrize(("what", "expected"), [("end", 5), ("good", 0)])
def test_behind_a_block(start, run_kwatch, what, expected):
    found = program_writes(run_stale(start, run_kwatch, what, "end:make_node", "begun"))
    assert found == ({("end", "scribble", "main"): expected} if expected else {})
