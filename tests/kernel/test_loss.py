# SPDX-License-Identifier: Apache-2.0
"""delivered + lost = the number of events that the program made, exactly."""

from __future__ import annotations

import os
import signal
import subprocess

# Runs kwatch with control rings of one page.
SMALL_CONTROL_RINGS = """
import mmap, sys
from kwatch.rings import stream
from kwatch.cli import main

stream._CONTROL_SIZE = mmap.PAGESIZE
sys.exit(main())
"""


def test_every_loss_is_counted(start, run_kwatch):
    target = start("getppid", 2, 300_007)
    kwatch = run_kwatch(
        "--pid",
        target.pid,
        "--json",
        "--no-heap",
        "--stacks",
        "-e",
        "trace=getppid",
        "--buffer",
        "64K",
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
    """The program keeps more blocks than the rings and the table of young blocks have room for."""
    target = start("keeps", 2, 30011, 1)
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls", "--buffer", "4K")
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    target.go()
    kwatch.send(signal.SIGCONT)
    target.end()
    final = kwatch.finish().final()
    assert final["lost"]["by_cause"]["heap_ring_full"] > 0
    assert final["verdict"] == "unsure"


def test_what_others_make_the_kernel_lose_leaves_the_verdict_alone(program, start, run_kwatch):
    target, bystander = start("leaky"), start("floods", program("passing", "-DNAME=first"))
    options = ("--scan-at-exit", "--json", "--no-syscalls", "--interval", "0.2")
    kwatch = run_kwatch("--pid", target.pid, *options)
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    bystander.go("opened")
    (cpu,) = os.sched_getaffinity(bystander.pid)
    kwatch.send(signal.SIGCONT)
    # The kernel reports the loss with its next record on the same CPU: it maps a program.
    subprocess.run(["taskset", "--cpu-list", str(cpu), "true"], check=True)
    kwatch.document(lambda document: document["lost"]["events"] > 0)
    target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["lost"]["by_cause"].keys() == {"mapping_record_lost"}
    assert final["verdict"] == "leak"


def test_a_million_a_second_for_ten_seconds(start, run_kwatch):
    target = start("rate", 1_000_000, 10, 2)
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-heap", "-e", "trace=getppid")
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert final["lost"]["events"] == 0
    assert final["syscalls"]["calls"] == answers["getppid"]


def test_children_that_nobody_came_to_know(start, run_kwatch):
    """The parent's report counts lost forks and exits of children that kwatch never knew."""
    target = start("storm", 1008)
    options = ("--pid", target.pid, "--follow", "--json", "--no-heap", "-e", "trace=getppid")
    kwatch = run_kwatch(*options, script=SMALL_CONTROL_RINGS)
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    target.go()
    kwatch.send(signal.SIGCONT)
    target.end()
    result = kwatch.finish()
    unknown = 1009 - (len({d["process"]["pid"] for d in result.documents}) - 1)
    lost = result.final(target.pid)["lost"]["by_cause"]
    assert unknown > 0
    assert lost.keys() == {"control_ring_full"}
    assert unknown <= lost["control_ring_full"] <= 2 * 1009 + 1  # the parent's own exit, too
