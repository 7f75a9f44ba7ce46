# SPDX-License-Identifier: Apache-2.0
"""What the C library gives to the program can leak; what it keeps in its tables does not."""

from __future__ import annotations

import pytest

from kwatch.model.frame import Ending, Frame
from kwatch.model.snapshot import StackStats, Verdict
from kwatch.report.unsymbolized import NoSymbols
from kwatch.report.verdict import VerdictInput, judge
from kwatch.symbols.stack import Stack

OPTIONS = ("--json", "--no-syscalls", "--older", 0, "--top", 1000)
#: malloc's own count is exact without the cache of each thread.
EXACT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
WITHOUT_DEBUG_FILES = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs none /usr/lib/debug; exec "$0" "$@"',
)


def stacks_of(document, function):
    return [
        stack
        for stack in document["heap"]["stacks"]
        if any(frame["symbol"] == function for frame in stack["frames"])
    ]


def verdict_on(stacks, program):
    """The verdict if only these were outstanding."""
    rows = []
    for stack in stacks:
        frames = tuple(
            Frame(**frame | {"address": int(frame["address"], 16)}) for frame in stack["frames"]
        )
        ending = Ending(stack["ending"])
        row = StackStats(
            len(rows), stack["bytes"], stack["blocks"], 9.0, (), (), frames, ending=ending
        )
        rows.append((row, Stack(frames=frames)))
    return judge(VerdictInput(tuple(rows), program, exited=False), NoSymbols())


@pytest.mark.parametrize("prefix", [(), WITHOUT_DEBUG_FILES], ids=["as it is", "stripped"])
@pytest.mark.parametrize(("mode", "expected"), [("handed", Verdict.LEAK), ("kept", Verdict.CLEAN)])
def test_each_function_of_the_c_library(start, run_kwatch, mode, expected, prefix):
    target = start("owned", mode, prefix=prefix, environment=EXACT)
    kwatch = run_kwatch("--pid", target.pid, *OPTIONS)
    kwatch.attached()
    answers = target.go()
    final = kwatch.stop().final()  # before the end of the program: exit() frees some tables
    assert final["verdict"] == expected
    calls = {name: left for name, left in answers.items() if name.endswith(("_lost", "_kept"))}
    assert len(calls) == answers["calls"]
    heap = final["heap"]
    overhead = sum(calls.values()) - heap["live_bytes"]
    assert 8 * heap["live_blocks"] <= overhead <= 32 * heap["live_blocks"]
    for name, left in calls.items():
        stacks = stacks_of(final, name)
        assert bool(stacks) == (left > 0), name
        verdict, reason = verdict_on(stacks, final["process"]["exe"])
        assert verdict is expected, name
        assert verdict is Verdict.CLEAN or f"from {name} (owned.c:" in reason
