# SPDX-License-Identifier: Apache-2.0
"""Blocks that are still in the kernel, or ended there, are in every figure of a report."""

from __future__ import annotations

import signal

import pytest

from kwatch.kernel.bpf_features import keeps_young_blocks

HEAP = ("--json", "--no-syscalls")


def counts(document, *names):
    assert document["lost"] == {"events": 0, "by_cause": {}}
    return tuple(document["heap"][name] for name in names)


def test_each_moment_of_a_life(start, run_kwatch):
    """Young blocks are live in a snapshot; they outlive their thread; any thread can end them."""
    target = start("young")
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--interval", "0.1", "--older", 0)
    kwatch.attached()
    said = target.go("held")
    live = said["held_blocks"], said["held_bytes"]
    allocs = said["pairs"] + said["held_blocks"]
    document = kwatch.document(lambda each: each["heap"]["allocs"] == allocs)
    assert counts(document, "live_blocks", "live_bytes") == live
    assert counts(document, "frees") == (said["pairs"],)
    (held,) = document["heap"]["stacks"]
    assert (held["frames"][0]["symbol"], held["blocks"]) == ("hold", said["held_blocks"])
    said |= target.go("ended")
    said |= target.go()
    final = kwatch.stop().final(target.pid)
    names = {stack["frames"][0]["symbol"]: stack["blocks"] for stack in final["heap"]["stacks"]}
    assert names["leak_in_thread"] == said["leaked_blocks"]
    assert "hold" not in names
    ended = said["pairs"] + said["exchanged"] + said["held_blocks"]
    heap = final["heap"]
    # glibc has blocks of its own for each thread.
    assert ended <= heap["frees"] <= ended + 6
    assert heap["allocs"] - heap["frees"] == heap["live_blocks"]
    assert heap["superseded"] == 0


def test_the_end_of_tracing_finds_what_is_young(start, run_kwatch):
    target = start("young")
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--interval", "1000")
    kwatch.attached()
    said = target.go("held")
    final = kwatch.stop().final(target.pid)
    live = said["held_blocks"], said["held_bytes"]
    assert counts(final, "live_blocks", "live_bytes", "unknown_frees") == (*live, 0)
    assert counts(final, "allocs") == (said["pairs"] + said["held_blocks"],)


def test_a_child_has_the_blocks_that_were_young_at_its_fork(start, run_kwatch):
    target = start("young_forks")
    kwatch = run_kwatch("--pid", target.pid, "--follow", *HEAP)
    kwatch.attached()
    child = target.go("forked")["child"]
    kwatch.said(lambda line: line.startswith(f"attached to young_forks[{child}]; heap: "))
    said = target.go()
    target.end()
    result = kwatch.finish()
    for pid, process in ((target.pid, "parent"), (child, "child")):
        names = ("live_blocks", "live_bytes", "frees")
        expected = tuple(said[f"{process}_{name}"] for name in names)
        assert counts(result.final(pid), *names) == expected
        assert counts(result.final(pid), "unknown_frees", "superseded") == (0, 0)


@pytest.mark.parametrize("kept", [101, 30011])
def test_a_stopped_reader_loses_no_pair(start, run_kwatch, kept):
    """`kept` blocks of each thread fill the table, or leave room in it."""
    target = start("keeps", 2, kept, 5)
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--buffer", "64K")
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    said = target.go()
    kwatch.send(signal.SIGCONT)
    final = kwatch.stop().final(target.pid)
    heap, lost = final["heap"], final["lost"]
    delivered = heap["allocs"] + heap["frees"] + heap["unknown_frees"]
    assert delivered + lost["events"] == said["kept"] + 2 * said["pairs"]
    if kept == 101 and keeps_young_blocks():
        assert lost["events"] == 0
        assert heap["live_blocks"] == said["kept"]
    else:
        assert lost["by_cause"] == {"heap_ring_full": lost["events"]}


@pytest.mark.parametrize("is_reported", [True, False])
def test_an_address_that_only_a_young_block_used_again(start, run_kwatch, is_reported):
    """The blocks before had a free that was not seen, whether kwatch has them already or not."""
    target = start("resets")
    options = ("--alloc-prefix", "arena_", "--interval", "0.1" if is_reported else "1000")
    kwatch = run_kwatch("--pid", target.pid, *HEAP, *options)
    kwatch.attached()
    kept = target.go("kept")["kept"]
    if is_reported:
        kwatch.document(lambda document: document["heap"]["live_blocks"] == kept)
    target.go()
    final = kwatch.stop().final(target.pid)
    assert counts(final, "allocs", "frees", "superseded") == (2 * kept, kept, kept)
    assert counts(final, "live_blocks", "live_bytes", "unknown_frees") == (0, 0, 0)
