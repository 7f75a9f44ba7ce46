# SPDX-License-Identifier: Apache-2.0
"""Nothing that no probed allocator gave out is called clean."""

from __future__ import annotations

from pathlib import Path

import pytest

SIZE = 64 << 20


@pytest.fixture
def traced(start, run_kwatch):
    """traced(what): the program's answers, its pid, its anonymous memory, and the final report."""

    def trace(what, *options):
        target = start("unseen", what)
        before = anonymous(target.pid)
        kwatch = run_kwatch("--pid", target.pid, "--json", *options)
        kwatch.attached()
        answers = target.go()
        grown = anonymous(target.pid) - before
        final = kwatch.stop().final(target.pid)
        assert target.end() == 0
        return answers, grown, final

    return trace


def anonymous(pid):
    """From another file of /proc than kwatch reads."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    raise AssertionError(pid)


@pytest.mark.parametrize("what", ["arena", "mappings", "moved"])
def test_memory_of_no_allocator(traced, what):
    answers, grown, final = traced(what)
    memory = final["memory"]
    assert final["verdict"] == "unsure"
    assert "anonymous memory grew by 64." in final["reason"]
    assert memory["anonymous_growth"] == pytest.approx(grown, abs=1 << 20)
    assert memory["unseen_bytes"] == pytest.approx(SIZE, abs=1 << 20)
    assert memory["own_mappings"] == answers.get("mappings", 0)
    assert memory["own_bytes"] == (SIZE if what != "arena" else 0)


@pytest.mark.parametrize("options", [(), ("--stacks",), ("-e", "trace=openat", "--stacks")])
@pytest.mark.parametrize("what", ["mappings", "moved"])
def test_its_mappings_are_listed_by_stack(traced, what, options):
    answers, _, final = traced(what, *options)
    [stack] = final["memory"]["stacks"]
    assert (stack["bytes"], stack["blocks"]) == (SIZE, answers["mappings"])
    caller = "map_piece" if what == "mappings" else "take_moved"
    assert caller in [frame["symbol"] for frame in stack["frames"]]
    assert stack["ending"] == "complete"


def test_shared_memory(traced):
    answers, _, final = traced("shared")
    assert final["memory"]["shared_growth"] == pytest.approx(answers["shared_bytes"], abs=1 << 20)
    assert final["verdict"] == "unsure"
    assert "resident shared memory grew by 64." in final["reason"]


def test_a_command_that_ends_before_its_first_report(program, run_kwatch):
    """kwatch takes readings meanwhile; the last one is at most a second old."""
    command = (program("unseen"), "slowly", "now")
    result = run_kwatch("--json", "--no-syscalls", "--interval", 60, "--", *command).finish()
    final = result.final()
    assert final["memory"]["anonymous_growth"] > SIZE // 2
    assert final["verdict"] == "unsure"
    assert "that no probed allocator gave out" in final["reason"]


def test_descriptors(traced):
    answers, _, final = traced("descriptors")
    assert final["descriptors"]["growth"] == answers["descriptors"]
    assert final["verdict"] == "unsure"
    assert f"{answers['descriptors']} more file descriptors are open" in final["reason"]


def test_a_buffer_that_keeps_growing(traced):
    """Its age starts again with each realloc, so it is never old enough to count as a leak."""
    answers, _, final = traced("buffer", "--older", "1.5")
    heap = final["heap"]
    assert heap["live_bytes"] == heap["young_bytes"] == answers["buffer_bytes"]
    [stack] = heap["young_stacks"]
    assert stack["frames"][0]["symbol"] == "grow_buffer"
    assert final["verdict"] == "unsure"
    assert "the heap keeps growing" in final["reason"]


def test_memory_of_an_allocator_is_explained(traced):
    _, _, final = traced("heap")
    assert final["memory"]["unseen_bytes"] == 0
    assert (final["verdict"], final["memory"]["own_mappings"]) == ("clean", 0)


def test_nothing_is_no_verdict(traced):
    _, _, final = traced("nothing")
    assert final["verdict"] is None
    assert final["reason"] == "nothing was allocated or freed while kwatch traced"
