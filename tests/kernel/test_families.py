# SPDX-License-Identifier: Apache-2.0
"""Allocators are found by the names of their functions, whatever these begin with."""

from __future__ import annotations

import pytest
from harness.libraries import library

HEAP = ("--json", "--no-syscalls")


def traced(start, run_kwatch, *program, options=(), **how):
    """The program's answers, kwatch's `attached` line, and its result."""
    target = start(*program, **how)
    kwatch = run_kwatch("--pid", target.pid, *HEAP, *options)
    attached = kwatch.attached()
    answers = target.go()
    target.end()
    return answers, attached, kwatch.finish()


def assert_exact(answers, result):
    final = result.final()
    heap = final["heap"]
    assert final["lost"]["events"] == 0
    figures = ("live_blocks", "live_bytes", "allocs", "frees")
    assert {name: heap[name] for name in figures} == {name: answers[name] for name in figures}
    assert heap["failed_allocs"] == answers.get("failed", 0)
    assert (heap["superseded"], heap["unknown_frees"]) == (0, 0)


@pytest.mark.parametrize("returns", ["auto", "ret"])
def test_families_in_one_program(start, run_kwatch, returns):
    answers, attached, result = traced(
        start, run_kwatch, "families", options=("--returns", returns)
    )
    assert_exact(answers, result)
    assert "families (moz_arena_*, DuckDB, _own_* and 2 more)" in attached
    assert " not " not in attached


@pytest.mark.parametrize(
    "allocator",
    [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("jemalloc", "mimalloc")],
)
@pytest.mark.parametrize("returns", ["auto", "ret"])
def test_own_functions_of_real_allocators(start, run_kwatch, allocator, returns):
    answers, _, result = traced(
        start,
        run_kwatch,
        "natives",
        allocator,
        options=("--returns", returns),
        environment={"LD_PRELOAD": str(library(f"lib{allocator}"))},
    )
    assert_exact(answers, result)
    (uncalled,) = [line for line in result.stderr if "0 calls so far" in line]
    assert "libc.so" in uncalled  # its malloc is there, but the preloaded one is called


@pytest.mark.needs("tcmalloc")
def test_no_function_of_tcmalloc_is_refused(start, run_kwatch):
    environment = {"LD_PRELOAD": str(library("libtcmalloc"))}
    _, attached, result = traced(start, run_kwatch, "family", environment=environment)
    assert " not " not in attached
    assert "could not be probed" not in result.final()["reason"]
