# SPDX-License-Identifier: Apache-2.0
"""What the program loses of the C library's is lost; what the library keeps is held."""

from __future__ import annotations

import pytest

from kwatch.model.snapshot import Verdict

OPTIONS = ("--json", "--no-syscalls", "--older", 0, "--top", 1000)
#: malloc's own count is exact without the cache of each thread.
EXACT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
#: The library holds every open stream in a list.
LISTED = {"fopen_lost", "fdopen_lost", "fmemopen_lost", "tmpfile_lost"}
#: These leave pointers behind on the stack, in words that no function has overwritten since.
ON_THE_STACK = {"glob_lost", "iconv_open_lost"}
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
        losing = any(stack["lost_bytes"] for stack in stacks)
        if name not in ON_THE_STACK:
            assert losing == (expected is Verdict.LEAK and name not in LISTED), name
