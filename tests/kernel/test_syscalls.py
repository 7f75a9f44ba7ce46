# SPDX-License-Identifier: Apache-2.0
"""System calls: kwatch counts the same calls by name as strace."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from harness import exchange

from kwatch.syscalls import names
from kwatch.wire.events import Abi

SYSCALLS = ("--json", "--no-heap", "--follow")

# strace counts a call when it returns; these never return.
NO_RETURN = {"exit", "exit_group"}

COMMANDS = {
    "find": ["find", "/usr/share/doc", "-name", "copyright"],
    "pipeline": ["sh", "-c", "cat /etc/passwd | sort | uniq -c | wc -l"],
    "python": [
        sys.executable,
        "-S",
        "-E",
        "-B",  # the first of two runs would keep what it compiles, for the second
        "-c",
        "import threading\n"
        "together = threading.Barrier(8)\n"
        "def work():\n"
        "    together.wait()\n"
        "    for _ in range(13): open('/etc/hostname').read()\n"
        "    together.wait()\n"
        "for _ in range(7): threading.Thread(target=work).start()\n"
        "together.wait()\n"
        "together.wait()\n",
    ],
}

# The number of these calls depends on scheduling. futex is called only under contention; a pipe's
# reader and writer split the data differently in each run; the process may end at any point of its
# last thread's exit. A thread that waits for Python's lock reads the clock, by a system call if the
# vDSO cannot read it (arch/x86/include/asm/vdso/clocksource.h).
CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()
READ_WITHOUT_A_CALL = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"}
VARIES = {
    "find": set(),
    "pipeline": {"read", "rt_sigreturn", "wait4"},
    "python": {"futex", "madvise", "munmap", "rt_sigprocmask"},
}
if CLOCK not in READ_WITHOUT_A_CALL:
    VARIES["python"].add("clock_gettime")

# All commands under one kwatch, for machines where starting kwatch takes half a minute.
COMMANDS["all"] = ["sh", "-c", "; ".join(map(shlex.join, COMMANDS.values()))]
VARIES["all"] = set.union(*VARIES.values())


def strace_counts(command, tmp_path, *options):
    """Numbers of calls and errors by name."""
    log = tmp_path / "strace"
    subprocess.run(
        ["strace", "-f", "-c", *options, "-o", log, *command],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    rows = [line.split() for line in log.read_text().splitlines() if re.match(r" *\d+\.\d", line)]
    return {row[-1]: (int(row[3]), int(row[4]) if len(row) == 6 else 0) for row in rows}


def kwatch_counts(result):
    calls, errors = Counter(), Counter()
    for document in result.documents:
        if document["kind"] == "final":
            assert document["lost"]["events"] == 0
            for row in document["syscalls"]["by_name"]:
                calls[row["name"]] += row["calls"]
                errors[row["name"]] += row["errors"]
    return {name: (calls[name], errors[name]) for name in calls if calls[name]}


def without_restarts(counts):
    """A fork that a signal interrupts fails (ERESTARTNOINTR) and begins again; both count each."""
    forks = {name: counts[name] for name in ("fork", "vfork", "clone", "clone3") if name in counts}
    return counts | {name: (calls - errors, 0) for name, (calls, errors) in forks.items()}


@pytest.mark.needs("strace")
@pytest.mark.parametrize("name", COMMANDS)
def test_counts_equal_straces(run_kwatch, tmp_path, name):
    # The loader unmaps different ranges to align a library, depending on the random load address.
    command = ["setarch", "--addr-no-randomize", *COMMANDS[name]]
    theirs = without_restarts(strace_counts(command, tmp_path))
    result = run_kwatch(*SYSCALLS, "--", *command).finish()
    ours = without_restarts(kwatch_counts(result))
    for skipped in NO_RETURN | VARIES[name]:
        theirs.pop(skipped, None)
        ours.pop(skipped, None)
    theirs.pop("total", None)
    exchange.save(name, result.stdout, {0: {name: calls for name, (calls, _) in theirs.items()}})
    assert ours == theirs


def test_calls_that_never_return_count(run_kwatch):
    result = run_kwatch(*SYSCALLS, "--", "true").finish()
    counts = kwatch_counts(result)
    assert counts["exit_group"] == (1, 0)
    assert counts["execve"] == (1, 0)


@pytest.mark.needs("m32")
def test_32_bit_callers_are_named_by_their_own_table(start, run_kwatch):
    target = start("syscalls32")
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS)
    kwatch.attached()
    answers = target.go()
    target.end()
    calls = {r["name"]: r["calls"] for r in kwatch.finish().final()["syscalls"]["by_name"]}
    for name in ("getppid", "open"):
        assert calls[name] == answers[name]


# strace 6.1 takes what setfsuid32 returns, the number of a user, for an error.
WRONG_IN_STRACE = {"setfsuid32"}


@pytest.mark.needs("m32", "strace")
def test_32_bit_calls_are_those_of_strace(program, run_kwatch, tmp_path):
    """With calls inside socketcall and ipc, and numbers that mean something else on x86-64."""
    command = [program("syscalls32"), "now"]
    theirs = strace_counts(command, tmp_path)
    ours = kwatch_counts(run_kwatch(*SYSCALLS, "--", *command).finish())
    assert ours.pop("unknown") == (1, 1), "strace -c leaves it out"
    for skipped in NO_RETURN | WRONG_IN_STRACE | {"total"}:
        theirs.pop(skipped, None)
    found = {name: ours[name] for name in theirs}
    assert found == theirs
    assert ours.keys() - theirs.keys() <= NO_RETURN | WRONG_IN_STRACE
    assert ours.get("setfsuid32", (0, 0))[1] == 0


@pytest.mark.needs("m32", "strace")
@pytest.mark.parametrize("selection", ["connect,semop", "%network", "%ipc", "socketcall,ipc"])
def test_calls_inside_others_are_selected_as_by_strace(program, run_kwatch, tmp_path, selection):
    command = [program("syscalls32"), "now"]
    theirs = strace_counts(command, tmp_path, f"--trace={selection}")
    result = run_kwatch(*SYSCALLS, "-e", f"trace={selection}", "--", *command).finish()
    theirs.pop("total", None)
    assert kwatch_counts(result) == theirs


HEAP_OF_32_BITS = "32-bit program: its system calls are traced, its heap is not"


@pytest.mark.needs("m32")
def test_a_32_bit_heap_is_said_to_be_none(start, run_kwatch):
    target = start("syscalls32")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    who = f"syscalls32[{target.pid}]"
    told = f"attached to {who}; heap: not of {who} ({HEAP_OF_32_BITS}); system calls: all"
    assert kwatch.attached() == told
    answers = target.go()
    target.end()
    result = kwatch.finish()
    final = result.final()
    assert (final["verdict"], final["reason"]) == ("unsure", HEAP_OF_32_BITS)
    assert final["memory"]["mapped_bytes"] == answers["mapped_bytes"]
    assert result.stderr == [told]


@pytest.mark.needs("m32")
def test_a_32_bit_command_is_known_before_it_runs(program, run_kwatch):
    path = program("syscalls32")
    result = run_kwatch("--json", "--stacks", "--", path, "now").finish()
    assert f"heap: not of {path}[" in result.stderr[0]
    assert len(result.stderr) == 1
    assert result.final()["reason"] == HEAP_OF_32_BITS


def test_threads_and_a_set(start, run_kwatch):
    target = start("getppid", 3, 10007)
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS, "-e", "trace=getppid")
    kwatch.attached()
    answers = target.go()
    target.end()
    rows = kwatch.finish().final()["syscalls"]["by_name"]
    assert [(row["name"], row["calls"]) for row in rows] == [("getppid", answers["getppid"])]
    row = rows[0]
    assert 0 < row["p50_ns"] <= row["p99_ns"] <= row["max_ns"] * 1.04
    assert row["total_ns"] >= row["max_ns"]


@pytest.mark.parametrize("more", [(), ("--stacks",)])
def test_calls_that_seccomp_refuses_count(start, run_kwatch, more):
    """The kernel runs the exit tracepoint for them, but not the entry tracepoint."""
    target = start("refused")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-heap", *more)
    kwatch.attached()
    answers = target.go()
    target.end()
    rows = kwatch.finish().final()["syscalls"]["by_name"]
    (row,) = [row for row in rows if row["name"] == "getppid"]
    assert row["calls"] == answers["getppid"]
    assert row["errors"] == answers["refused"] > 0


def test_a_call_in_progress_is_unfinished(start, run_kwatch):
    """The program waits for its byte inside read()."""
    target = start("getppid", 1, 11)
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS)
    kwatch.attached()
    target.go()
    rows = kwatch.stop().final(target.pid)["syscalls"]["by_name"]
    read = next(row for row in rows if row["name"] == "read")
    assert (read["unfinished"], read["began_earlier"]) == (1, 0)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", [("futex", 0, 1, 1), ("read", 0, 1, 1)]),
        ("read", [("read", 0, 1, 1)]),
        ("getppid", []),
    ],
)
def test_a_call_from_before_the_attach_is_in_progress(start, run_kwatch, selection, expected):
    """As in a process that hangs: one thread reads, the other waits for it."""
    target = start("getppid", 1, 11)
    kwatch = run_kwatch("--pid", target.pid, *SYSCALLS, "-e", f"trace={selection}")
    kwatch.attached()
    assert kernel_says_that_it_reads(target.pid)
    rows = kwatch.stop().final(target.pid)["syscalls"]["by_name"]
    found = [(r["name"], r["calls"], r["unfinished"], r["began_earlier"]) for r in rows]
    assert found == expected


def kernel_says_that_it_reads(pid):
    number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return int(number) == names.number(Abi[os.uname().machine.upper()], "read")


def test_system_wide_sees_a_stranger(start, run_kwatch):
    kwatch = run_kwatch("--json", "-e", "trace=getppid")
    kwatch.attached()
    target = start("getppid", 1, 1009)
    answers = target.go()
    target.end()
    final = kwatch.document(lambda d: d["kind"] == "final" and d["process"]["pid"] == target.pid)
    kwatch.stop()
    assert final["process"]["exited"]
    assert final["syscalls"]["calls"] == answers["getppid"]
    assert final["heap"] is None
