# SPDX-License-Identifier: Apache-2.0
"""Returns at ret instructions: the counts are the same, and the target sees its own callers."""

from __future__ import annotations

import pytest

HEAP = ("--json", "--no-syscalls")


def traced(start, run_kwatch, name, *options):
    """The program's answers, its exit status, and the final report."""
    target = start(name)
    kwatch = run_kwatch("--pid", target.pid, *HEAP, *options)
    kwatch.attached()
    answers = target.go()
    status = target.end()
    return answers, status, kwatch.finish().final(target.pid)


@pytest.mark.parametrize("name", ["family", "reallocs", "threads", "cxx"])
def test_the_counts_are_those_of_return_probes(start, run_kwatch, name):
    answers, status, final = traced(start, run_kwatch, name, "--returns", "ret")
    heap = final["heap"]
    assert status == 0
    assert final["lost"]["events"] == 0
    assert heap["live_blocks"] == answers["live_blocks"]
    assert heap["live_bytes"] == answers["live_bytes"]
    assert heap["failed_allocs"] == answers.get("failed", 0)


def test_stacks_at_ret_instructions(start, run_kwatch):
    answers, _, final = traced(start, run_kwatch, "leaky", "--returns", "ret")
    for function, name in (("leak_small", "small"), ("leak_big", "big")):
        frames = [[frame["symbol"] for frame in s["frames"]] for s in final["heap"]["stacks"]]
        assert [function, "main"] in [each[:2] for each in frames], final["heap"]
        (stack,) = [s for s in final["heap"]["stacks"] if s["frames"][0]["symbol"] == function]
        assert stack["blocks"] == answers[f"{name}_blocks"]
        assert stack["frames"][1]["symbol"] == "main"


def test_return_probes_in_another_process_leave_this_one_alone(start, run_kwatch):
    """The kernel gives both processes the return probe, where both have a probe at one place."""
    other = start("leaky")
    kwatch = run_kwatch("--pid", other.pid, *HEAP, "--returns", "probe")
    kwatch.attached()
    _, status, final = traced(start, run_kwatch, "leaky", "--returns", "ret")
    assert status == 0
    callers = {stack["frames"][0]["symbol"] for stack in final["heap"]["stacks"]}
    assert callers == {"leak_small", "leak_big"}
    kwatch.stop()


def test_suppressions_of_a_sanitizer_match(start, run_kwatch):
    """LSan compares them with the caller of malloc, and exits with 23 if it finds a leak."""
    answers, status, final = traced(start, run_kwatch, "suppressed")
    assert status == 0
    assert final["heap"]["live_blocks"] == answers["live_blocks"]
    assert final["heap"]["live_bytes"] == answers["live_bytes"]


def test_a_malloc_that_switches_stacks_goes_on(start, run_kwatch):
    """With return probes the kernel ends it with SIGILL. What the main stack allocates is exact."""
    answers, status, final = traced(start, run_kwatch, "fibers")
    assert status == 0
    assert answers["own_callers"] == answers["rounds"]
    size = answers["size"]
    own = [s for s in final["heap"]["stacks"] if set(s["sizes"]) == {size}]
    assert sum(stack["blocks"] for stack in own) == answers["rounds"]
