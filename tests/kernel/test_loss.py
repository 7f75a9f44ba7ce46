# SPDX-License-Identifier: Apache-2.0
"""delivered + lost = what the program did, to the last event."""

from __future__ import annotations


def test_every_loss_is_counted(start, run_kwatch):
    target = start("getppid", 2, 300_007)
    kwatch = run_kwatch(
        "--pid", target.pid, "--json", "--no-heap", "-e", "trace=getppid", "--buffer", "64K"
    )
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    lost = final["lost"]
    assert lost["by_cause"] == {"syscall_ring_full": lost["events"]}
    assert lost["events"] > 0
    assert final["syscalls"]["calls"] + lost["events"] == answers["getppid"]


def test_a_loss_on_the_heap_makes_the_verdict_unsure(start, run_kwatch):
    target = start("leaky")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls", "--buffer", "4K")
    kwatch.attached()
    target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["lost"]["by_cause"]["heap_ring_full"] > 0
    assert final["verdict"] == "unsure"


def test_a_million_a_second_for_ten_seconds(start, run_kwatch):
    target = start("rate", 1_000_000, 10, 2)
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-heap", "-e", "trace=getppid")
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["lost"]["events"] == 0
    assert final["syscalls"]["calls"] == answers["getppid"]
