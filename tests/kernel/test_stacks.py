# SPDX-License-Identifier: Apache-2.0
"""Stacks without frame pointers: glibc's backtrace() in the program itself says what is right."""

from __future__ import annotations

import pytest

HEAP = ("--json", "--no-syscalls", "--top", "100", "--older", "0")
SIZE = 5000
SITES = (
    "plain",
    "alloca",
    "realigned",
    "signal",
    "deep",
    "too_deep",
    "thread",
    "sort",
    "library",
    "alternate",
)
MAX_FRAMES = 256


def expected(answers):
    """The return addresses of each site's callers, by the site's name."""
    sites = {}
    for key, address in answers.items():
        if key[0].isdigit():
            site, index = map(int, key.split("_"))
            sites.setdefault(SITES[site], {})[index] = address
    return {site: [found[i] for i in sorted(found)] for site, found in sites.items()}


def seen(final):
    """The stack of each site's block."""
    return {
        SITES[stack["sizes"][0] - SIZE]: stack
        for stack in final["heap"]["stacks"]
        if 0 <= stack["sizes"][0] - SIZE < len(SITES)
    }


def addresses(stack):
    return [int(frame["address"], 16) for frame in stack["frames"] if not frame["inlined"]]


def assert_exact(final, answers, sites=SITES):
    """What came before the tables of a new image is finished from a copy of one stack, so it ends
    where that stack does, and says so.
    """
    known, found = expected(answers), seen(final)
    assert set(sites) <= set(known)
    for site in sites:
        stack = found[site]
        if site == "too_deep":
            assert stack["ending"] == "too_deep"
            assert addresses(stack)[1:] == known[site][: MAX_FRAMES - 1]
        elif site == "alternate" and stack["ending"] == "unreadable":
            callers = addresses(stack)[1:]
            assert final["heap"]["endings"].get("finished")
            assert len(callers) > 2
            assert callers == known[site][: len(callers)]
        else:
            assert addresses(stack)[1:] == known[site], site
            assert stack["ending"] in ("complete", "finished"), site
    assert final["lost"] == {"events": 0, "by_cause": {}}


def test_every_kind_of_frame(start, run_kwatch):
    target = start("stacks")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert_exact(final, answers)
    assert final["heap"]["endings"]["too_deep"] == 1


def test_with_those_of_system_calls(start, run_kwatch):
    target = start("stacks")
    options = [option for option in HEAP if option != "--no-syscalls"]
    kwatch = run_kwatch("--pid", target.pid, *options, "--stacks")
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert_exact(final, answers)
    writes = [stack for stack in final["syscalls"]["stacks"] if stack["name"] == "write"]
    assert {"too_deep", "complete"} <= {stack["ending"] for stack in writes}
    assert final["heap"]["endings"]["too_deep"] == 1


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static(program, start, run_kwatch, flag):
    target = start(program("stacks", flag, "-DNO_DLOPEN"))
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    sites = [site for site in SITES if site != "library"]
    assert_exact(kwatch.finish().final(), answers, sites)


def test_after_an_exec(start, run_kwatch):
    target = start("stacks", "exec")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    assert_exact(kwatch.finish().final(), answers)


def test_in_a_child(start, run_kwatch):
    target = start("stacks", "fork")
    kwatch = run_kwatch("--pid", target.pid, "--follow", *HEAP)
    kwatch.attached()
    child = target.go("forked")["child"]
    kwatch.said(lambda line: line.startswith(f"attached to stacks[{child}]; heap: "))
    answers = target.go()
    target.end()
    assert_exact(kwatch.finish().final(child), answers)


def test_launched(program, run_kwatch):
    result = run_kwatch(*HEAP, "--", program("stacks"), "now").finish()
    assert_exact(result.final(), result.answers)


def test_without_stacks(start, run_kwatch):
    target = start("stacks")
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--no-stacks")
    kwatch.attached()
    target.go()
    target.end()
    final = kwatch.finish().final()
    stacks = final["heap"]["stacks"]
    assert {stack["ending"] for stack in stacks} == {"off"}
    assert "malloc" in {stack["frames"][0]["symbol"] for stack in stacks}
    assert final["heap"]["live_blocks"] >= len(SITES)
