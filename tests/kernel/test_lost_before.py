# SPDX-License-Identifier: Apache-2.0
"""What a process had lost before kwatch attached to it, and what a parent had lost at a fork."""

from __future__ import annotations

import pytest

HEAP = ("--no-syscalls", "--interval", 1000, "--json")


@pytest.fixture
def judged(start, run_kwatch):
    """judged(before, since): the target's pid and its final report."""

    def judge(before, since):
        target = start("lost_before", before, since)
        kwatch = run_kwatch("--pid", target.pid, *HEAP)
        kwatch.attached()
        target.go("forked")
        return target.pid, kwatch.stop().final()

    return judge


def test_many_are_a_leak(judged):
    pid, final = judged(200, 0)
    assert final["verdict"] == "leak"
    assert "allocated before the attach are lost: no pointer leads to them" in final["reason"]
    assert "no block allocated since is lost" in final["reason"]
    assert f"kwatch leaks --pid {pid} lists their sizes and types" in final["reason"]


def test_a_few_are_not(judged):
    _, final = judged(9, 0)
    assert final["verdict"] == "clean"
    assert "allocated before the attach are lost" in final["reason"]
    assert "no block allocated since is lost" in final["reason"]


def test_what_is_lost_since_comes_first(judged):
    _, final = judged(200, 50)
    first, earlier = final["reason"].split("; besides, ")
    assert final["verdict"] == "leak"
    assert " from lose (lost_before.c:" in first
    assert "allocated before the attach are lost" in earlier
    assert "since" not in earlier


def test_a_child_is_not_judged_by_what_its_parent_lost(start, run_kwatch):
    target = start("lost_before", 0, 200)
    kwatch = run_kwatch("--pid", target.pid, "--follow", *HEAP)
    kwatch.attached()
    child = target.go("forked")["child"]
    kwatch.said(lambda line: line.startswith(f"attached to lost_before[{child}]"))
    result = kwatch.stop()
    assert result.final(target.pid)["verdict"] == "leak"
    final = result.final(child)
    assert final["verdict"] != "leak"
    assert ") from before the fork are lost: no pointer leads to them" in final["reason"]
