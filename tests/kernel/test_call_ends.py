# SPDX-License-Identifier: Apache-2.0
"""How system calls end: answered by a filter, interrupted, or never.

The second source is the program, which sees what its calls return; strace counts their pieces.
"""

from __future__ import annotations

import os
import time
from ctypes import sizeof

import psutil
import pytest
from harness.bpf_maps import array_map, hash_map
from harness.lines import DEADLINE
from harness.target import answers

from kwatch.kernel.bpf_features import has_compare_and_exchange
from kwatch.wire.maps import SLOTS, SPILLED_SLOTS, NotedThread, Slot

SYSCALLS = ("--json", "--no-heap", "--follow")


def rows(document):
    """Numbers of calls, errors and unfinished calls by name."""
    return {
        row["name"]: (row["calls"], row["errors"], row["unfinished"])
        for row in document["syscalls"]["by_name"]
    }


def finals(result, pid):
    """The rows of the process, and those of its children."""
    documents = [d for d in result.documents if d["kind"] == "final"]
    assert all(d["lost"]["events"] == 0 for d in documents)
    mine = [rows(d) for d in documents if d["process"]["pid"] == pid]
    return mine[0], [rows(d) for d in documents if d["process"]["pid"] != pid]


@pytest.mark.parametrize("selection", ["all", "getppid,getpriority,getsid,setsid,rt_sigreturn"])
def test_calls_that_a_filter_answers_count(start, run_kwatch, selection):
    """The first calls of threads and children too; each with what the program gets."""
    target = start("filtered")
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS, "-e", f"trace={selection}")
    kwatch.attached()
    said = target.go()
    target.end()
    mine, children = finals(kwatch.finish(), target.pid)
    assert mine["getppid"] == (said["refused"], said["refused"], 0)
    assert mine["getpriority"] == (said["succeeded"], 0, 0)
    assert mine["getsid"] == (said["trapped"], said["trapped_errors"], 0)
    assert mine["rt_sigreturn"] == (said["trapped"], 0, 0)
    assert {"getppid": (said["child"], said["child"], 0)}.items() <= children[0].items()
    assert said["killed_by"] == 31
    assert children[1]["setsid"] == (0, 0, 1)


def test_a_command_under_a_filter(program, run_kwatch):
    result = run_kwatch(*SYSCALLS, "--", program("filtered"), "now").finish()
    said = answers(result.stdout)
    (mine,) = [r for d in result.documents if "execve" in (r := rows(d)) and d["kind"] == "final"]
    assert mine["getppid"] == (said["refused"], said["refused"], 0)
    assert mine["execve"] == (1, 0, 0)


@pytest.mark.parametrize("more", [(), ("--stacks",)])
def test_an_interrupted_call_is_one_call(start, run_kwatch, more):
    target = start("interrupted")
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS, *more)
    kwatch.attached()
    said = target.go()
    target.end()
    mine, (child,) = finals(kwatch.finish(), target.pid)
    assert mine["recvfrom"] == (said["recvs"], 0, 1), "one is left by siglongjmp()"
    assert mine["pause"] == (said["pauses"], said["pauses"], 0)
    slept, woken = said["sleeps"], said["interrupted_sleeps"]
    assert mine["clock_nanosleep"] == (slept, woken, 0)
    assert mine["rt_sigreturn"] == (said["signals"], 0, 0)
    assert child["poll"] == (said["polls"], 0, 0)
    assert "restart_syscall" not in child


@pytest.mark.parametrize("more", [("--no-heap",), (), ("--stacks",), ("--stacks", "--no-heap")])
def test_a_call_that_has_returned_counts_although_no_other_follows(start, run_kwatch, more):
    """The thread computes when tracing ends. `pause` has returned, and never will again."""
    target = start("interrupted", "spin")
    kwatch = run_kwatch("--pid", target.pid, "--json", *more)
    kwatch.attached()
    target.release()
    while psutil.Process(target.pid).cpu_times().user < 0.1:
        assert target.is_running
    final = kwatch.stop().final()
    assert rows(final)["pause"] == (1, 1, 0)
    listed = final["syscalls"]["stacks"]
    if listed is not None:
        (stack,) = [stack for stack in listed if stack["name"] == "pause"]
        assert "main" in [frame["symbol"] for frame in stack["frames"]]


@pytest.mark.parametrize("how", ["exit", "kill", "abort", "exec"])
def test_calls_in_which_threads_die_are_unfinished(start, run_kwatch, how):
    target = start("dies", how)
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS)
    kwatch.attached()
    each = target.go("waiting")["each"]
    target.end()
    mine, _ = finals(kwatch.finish(), target.pid)
    for name in ("epoll_pwait", "ppoll", "recvfrom", "rt_sigsuspend"):
        assert mine[name] == (0, 0, each), name
    fatal = {"kill": "kill", "abort": "tgkill"}
    if how in fatal:
        assert mine[fatal[how]] == (0, 0, 1)


def slots_of(pid):
    """Where the kernel lacks what the table needs, the slots are in the only map with such keys."""
    if has_compare_and_exchange():
        return array_map(pid, SLOTS + SPILLED_SLOTS)
    return hash_map(pid, 8)


@pytest.mark.parametrize("selection", ["all", "getppid", "openat"])
def test_what_is_kept_of_a_thread_ends_with_it(start, run_kwatch, selection):
    target = start("crowd", 100, 50)
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS, "-e", f"trace={selection}")
    kwatch.attached()
    said = target.go()
    deadline = time.monotonic() + DEADLINE
    while len(os.listdir(f"/proc/{target.pid}/task")) > 1 and time.monotonic() < deadline:
        os.sched_yield()
    with hash_map(kwatch.pid, 4, sizeof(NotedThread)) as noted:
        assert not [tid for tid, _ in noted.items() if int.from_bytes(tid, "little") != target.pid]
    with slots_of(kwatch.pid) as table:
        slots = [Slot.from_buffer_copy(value) for _, value in table.items()]
    assert [slot.tid for slot in slots if slot.stack and slot.tgid == target.pid] == [target.pid]
    target.end()
    mine, _ = finals(kwatch.finish(), target.pid)
    if selection != "openat":
        assert mine["getppid"] == (said["getppid"], 0, 0)


FEW_SLOTS = """
import sys
from kwatch.programs import loader
text = loader.source_text().replace("#define SLOT_BITS 14", "#define SLOT_BITS 1")
assert text != loader.source_text()
loader.source_text = lambda filter_code: text
from kwatch.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("script", ["", FEW_SLOTS], ids=["table", "spilled"])
def test_many_threads_at_once(start, run_kwatch, script):
    """With a table of four slots, almost all slots are behind it."""
    threads = 1000
    target = start("crowd", 3, threads, "together")
    options = ("--pid", target.pid, "--json", "-e", "trace=getppid")
    kwatch = run_kwatch(*options, script=script)
    kwatch.attached()
    assert target.go()["getppid"] == 3 * threads
    target.end()
    result = kwatch.finish()
    mine, _ = finals(result, target.pid)
    assert mine["getppid"] == (3 * threads, 0, 0)
    stacks = result.final()["heap"]["stacks"]
    assert 3 * threads in {stack["blocks"] for stack in stacks}
