# SPDX-License-Identifier: Apache-2.0
"""The C of a filter passes the verifier and accepts the calls that it should, at entry and exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from harness.filter_run import CALLS, COMM

from kwatch.syscalls.filter import in_kernel
from kwatch.syscalls.filter.parser import parse
from kwatch.syscalls.filter.split import split

ALL = set(CALLS)
FAILS = {"dup", "faccessat"}
GETS = {"getppid", "getuid"}


def cgroup_id() -> int | None:
    """The inode of this process's cgroup; None if version 2 is not mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    points = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line[3:] for line in groups if line.startswith("0::")), "")
    return os.stat(points[0] + path).st_ino if points and path else None


#: Names of the calls that pass at the entry, and of those that pass at the return too.
EXPECTED = {
    "syscall = getppid": (["getppid"], ["getppid"]),
    "syscall glob get*id and not syscall = getuid": (["getppid"], ["getppid"]),
    f"comm = {COMM} and error exists": (ALL, FAILS),
    "comm contains ter-t and not error exists and class != file": (
        ALL - {"faccessat"},
        {*GETS, "clock_nanosleep"},
    ),
    "comm startswith filter- and comm endswith -test and error in (ENOENT, EPERM)": (
        ALL,
        ["faccessat"],
    ),
    "comm contains longer": ([], []),
    "arg0 = -1 and ret < 0": (["dup"], ["dup"]),
    "duration > 5ms and duration < 1s": (ALL, ["clock_nanosleep"]),
    f"pid = PID and tid = PID and uid = {os.geteuid()}": (ALL, ALL),
    f"not uid = {os.geteuid()}": ([], []),
    f"cgroup_id = {cgroup_id()}" if cgroup_id() else "cgroup_id >= 1": (ALL, ALL),
    # What user space decides may be true.
    "path = /no/such/file or syscall = getuid": (ALL, ALL),
    "(path = /no/such/file and ret < 0 or syscall = getuid) and not (path = /x and pid = 1)": (
        ALL,
        {"getuid", *FAILS},
    ),
}

#: As much as the kernel takes: every branch is one that the verifier follows.
MIXED = " or ".join(
    f"tid > 1 and (comm contains b{n} and class != file and arg{n} < {n} or pid = 1 and ret >= {n})"
    for n in range(6)
)
LARGEST = " or ".join(f"comm contains b{number:03}" for number in range(in_kernel.MAX_TESTS // 13))


def counted(names: set[str] | list[str]) -> dict[str, int]:
    return {name: times if name in names else 0 for name, (times, _) in CALLS.items()}


def run(*expressions: str) -> list[list[dict[str, int]]]:
    done = subprocess.run(
        [sys.executable, "-m", "harness.filter_run"],
        input=json.dumps(expressions),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_kernel_accepts_what_it_should() -> None:
    said = dict(zip(EXPECTED, run(*EXPECTED), strict=True))

    assert said == {
        expression: [counted(entered), counted(returned)]
        for expression, (entered, returned) in EXPECTED.items()
    }


def test_the_largest_filters_pass_the_verifier() -> None:
    assert sum(map(in_kernel.tests_of, parse(LARGEST).terms)) > in_kernel.MAX_TESTS * 0.9
    assert split(parse(MIXED)).user is None

    assert run(f"{LARGEST} or ret < 0", f"not ({LARGEST}) and ret < 0", f"not ({MIXED})") == [
        [counted(ALL), counted(FAILS)],
        [counted(ALL), counted(FAILS)],
        [counted(ALL), counted(ALL)],
    ]
