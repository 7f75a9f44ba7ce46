# SPDX-License-Identifier: Apache-2.0
"""`kwatch trace` shows a call that takes long before it returns, in two lines as strace does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from harness.waiting import wait_until

from kwatch.procfs.current_call import thread_ids, thread_state

CALLS = ("read", "poll", "epoll_wait", "recvfrom", "futex", "wait4")
PARTS = re.compile(
    r"(?:\[pid +\d+\] |\d+ +)?((\w+)\(.* <unfinished \.\.\.>|<\.\.\. (\w+) resumed>.*)"
)


def normal(line: str) -> str | None:
    """A line of one of the CALLS without addresses, pids and alignment; None for another line."""
    match = PARTS.fullmatch(line)
    if match is None or (match[2] or match[3]) not in CALLS:
        return None
    text = re.sub("0x[0-9a-f]+", "ADDRESS", match[1])
    return re.sub(" +=", " =", re.sub(r"\b\d{3,}\b", "PID", text))


def of_strace(path: Path, log: Path) -> list[str]:
    """The lines of the first thread."""
    command = ["strace", "-f", "-o", log, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as target:

        def mine() -> list[str]:
            lines = log.read_text().splitlines() if log.exists() else []
            first = lines[0].split()[0] if lines else "none"
            return [found for line in lines if line.startswith(first) and (found := normal(line))]

        def has_lines(count: int) -> bool:
            return len(mine()) >= count

        assert target.stdin is not None
        for lines in (0, *range(0, 2 * len(CALLS), 2)):  # first, the stage
            wait_until(partial(has_lines, lines))
            target.stdin.write(b"\n")
            target.stdin.flush()
        target.stdin.close()
    return mine()


@pytest.mark.needs("strace")
def test_the_two_lines_are_those_of_strace(program, start, run_kwatch, tmp_path):
    expected = of_strace(program("long_calls"), tmp_path / "log")
    assert len(expected) == 2 * len(CALLS)
    target = start("long_calls")
    names = ",".join(CALLS)
    kwatch = run_kwatch("trace", "--pid", target.pid, "-e", f"trace={names}")
    kwatch.attached()
    target.release()
    for name in CALLS:
        kwatch.printed(re.compile(rf".*\b{name}\(.* <unfinished \.\.\.>").fullmatch)
        target.release()
    assert [line for each in kwatch.finish().stdout if (line := normal(each))] == expected


def test_the_end_of_a_thread_in_such_a_call(start, run_kwatch):
    target = start("getppid", 2, 1009)
    kwatch = run_kwatch("trace", "--pid", target.pid, "-e", "trace=read")
    kwatch.attached()
    target.go()
    kwatch.printed(lambda line: line == "read(0,  <unfinished ...>")
    target.kill()
    resumed, end = kwatch.finish().stdout[-2:]
    assert re.fullmatch(r"<\.\.\. read resumed>0x\w+, 1 <unfinished \.\.\.>\) = \?", resumed)
    assert end == "+++ killed by SIGKILL +++"


def test_the_end_of_threads_that_have_made_no_call(start, run_kwatch):
    """A signal had stopped them before kwatch was attached."""
    target = start("getppid")
    os.kill(target.pid, signal.SIGSTOP)
    threads = list(thread_ids(target.pid))
    wait_until(lambda: all(thread_state(target.pid, tid) == "T" for tid in threads))
    kwatch = run_kwatch("trace", "--pid", target.pid)
    kwatch.attached()
    target.kill()
    assert kwatch.finish().stdout == ["+++ killed by SIGKILL +++"] * len(threads)
