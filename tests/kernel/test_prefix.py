# SPDX-License-Identifier: Apache-2.0
"""--alloc-prefix probes an allocator with other names and reports a prefix that matches nothing."""

from __future__ import annotations

import pytest


def about(prefix, lines):
    return [line for line in lines if f"--alloc-prefix {prefix}" in line]


def traced(start, run_kwatch, prefixes, *program):
    """The program's answers, and kwatch's result."""
    target = start(*program)
    options = [word for prefix in prefixes for word in ("--alloc-prefix", prefix)]
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls", *options)
    kwatch.attached()
    answers = target.go()
    target.end()
    return answers, kwatch.finish()


def test_an_allocator_with_names_of_its_own(start, run_kwatch):
    answers, result = traced(start, run_kwatch, ["arena_"], "prefixed")
    heap = result.final()["heap"]
    assert heap["live_blocks"] == answers["live_blocks"]
    assert heap["live_bytes"] == answers["live_bytes"]
    assert heap["allocs"] == answers["mallocs"]
    assert heap["frees"] == answers["frees"]
    assert about("arena_", result.stderr) == []


@pytest.mark.parametrize("wrapped", [1009, 1])
def test_wrappers_that_jump_to_the_real_function(start, run_kwatch, wrapped):
    """A free through a wrapper is seen twice but counts once; direct frees all count."""
    answers, result = traced(start, run_kwatch, ["pool_", "pool_other_"], "handover", wrapped)
    heap = result.final()["heap"]
    assert heap["allocs"] == answers["allocs"]
    assert heap["frees"] == answers["frees"]
    assert (heap["live_blocks"], heap["superseded"]) == (0, 0)


def test_a_prefix_that_matches_nothing_is_named(start, run_kwatch):
    target = start("prefixed")
    prefixes = ["--alloc-prefix", "arena_", "--alloc-prefix", "foo_"]
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls", *prefixes)
    attached = kwatch.attached()
    assert "no match yet for --alloc-prefix foo_" in attached
    target.end()
    result = kwatch.finish()
    assert result.status == 0
    (at_start, at_end) = about("foo_", result.stderr)
    assert at_start == attached
    assert "matched nothing" in at_end
    assert "foo_malloc and foo_free" in at_end
    assert about("arena_", result.stderr) == []
