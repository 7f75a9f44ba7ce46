# SPDX-License-Identifier: Apache-2.0
"""A machine that does more than kwatch can follow: limits of time and memory hold, losses count."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from kwatch.system.priority import READER_NICE

CHILDREN = 6007
SECONDS = 2
AFTERWARDS_S = 90  # for the last events and names, on a busy machine
MAX_MEMORY = 1 << 30


@pytest.mark.parametrize("number", [None, signal.SIGTERM], ids=["duration", "signal"])
def test_loops_of_forks_beside_a_heap_trace_of_everything(start, run_kwatch, number):
    """`storm` makes some thousand processes a second; each has allocations and a new stack."""
    storms = [start("storm", 10_000_000) for _ in range(2)]
    limit = () if number else ("--duration", SECONDS)
    kwatch = run_kwatch("--heap", "--json", "--interval", SECONDS, *limit)
    resource.prlimit(kwatch.pid, resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    for storm in storms:
        storm.release()
    kwatch.attached()
    began = time.monotonic()
    if number:
        kwatch.document(lambda one: one["kind"] == "ended")
        began = time.monotonic() - SECONDS
        kwatch.send(number)
    result = kwatch.finish()
    assert time.monotonic() < began + SECONDS + AFTERWARDS_S
    assert result.status == 0, result.stderr
    last = [one for one in result.documents if one["kind"] == "ended"][-1]
    (storm,) = [one for one in last["names"] if one["comm"] == "gust"]
    assert storm["processes"] >= storm["skipped"] > 0
    (lost, *_) = [one["lost"] for one in result.documents[::-1] if one["kind"] == "final"]
    assert lost["by_cause"]["process_skipped"] > 0


def test_a_loop_of_forks_shows_by_its_name(start, run_kwatch):
    """Every child makes one prctl(): the program knows how many children it has.

    Other programs on the machine may have children of the same name.
    """
    target = start("storm", CHILDREN)
    kwatch = run_kwatch("--json", "-e", "trace=prctl", "--interval", "0.5")
    kwatch.attached()
    target.go()
    ended = CHILDREN - CHILDREN % 2
    found = kwatch.document(lambda one: one["kind"] == "ended" and counts(one, "gust")[0] >= ended)
    processes, calls = counts(found, "gust")
    assert ended <= processes < 2 * ended
    assert calls == processes
    kwatch.stop()


def counts(document, comm):
    """How many processes of a name have ended, and their system calls."""
    return next(
        ((n["processes"], n["syscalls"]["calls"]) for n in document["names"] if n["comm"] == comm),
        (0, 0),
    )


def test_many_busy_threads_lose_nothing(start, run_kwatch):
    """They keep every CPU busy and make several times as many events as the rings hold."""
    target = start("pairs", 8 * os.cpu_count(), 40_009)
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls")
    kwatch.attached()
    pairs = target.go()["pairs"]
    target.end()
    final = kwatch.finish().final()
    assert final["lost"] == {"events": 0, "by_cause": {}}
    heap = final["heap"]
    assert pairs <= heap["allocs"] <= pairs + 64  # the C library allocates for threads
    assert heap["frees"] >= pairs


def test_only_the_reader_has_priority(run_kwatch):
    """It needs a CPU in time; the command and the helpers run as they would without kwatch."""
    own = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    said = "import os; print('nice', *[os.sched_getscheduler(0), os.getpriority(0, 0)], flush=True)"
    command = ("sh", "-c", f'python3 -c "{said}"; exec sleep 60')
    kwatch = run_kwatch("--json", "--follow", "--stacks", "--", *command)
    kwatch.printed(lambda line: line == "nice {} {}".format(*own))
    nices = {tid: nice_of(tid) for tid in threads_of(kwatch.pid)}
    assert nices.pop(kwatch.pid) == (own[1] or READER_NICE)
    for child in children_of(kwatch.pid):
        nices |= {tid: nice_of(tid) for tid in threads_of(child)}
    assert len(nices) > 2
    assert set(nices.values()) == {own[1]}
    kwatch.stop(signal.SIGTERM)


def threads_of(pid):
    return [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]


def children_of(pid):
    files = (Path(f"/proc/{pid}/task/{tid}/children") for tid in threads_of(pid))
    return [int(child) for file in files for child in file.read_text().split()]


def nice_of(tid):
    """The nice value: proc(5)."""
    return int(Path(f"/proc/{tid}/stat").read_text().rpartition(")")[2].split()[16])
