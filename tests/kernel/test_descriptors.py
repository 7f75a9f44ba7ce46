# SPDX-License-Identifier: Apache-2.0
"""`kwatch trace -y` and `-yy` show what descriptors refer to, as strace does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from harness.waiting import wait_until

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from strace_compare.compare import compare

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
COMMANDS = {
    "cat": ["cat", "/etc/passwd", "/etc/localtime", "/dev/null"],
    "find": ["find", "/usr/share/doc/bash", "-newer", "/etc/passwd"],
}


@pytest.mark.needs("strace")
@pytest.mark.parametrize("option", ["-y", "-yy"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_lines_of_a_command_are_those_of_strace(command, option):
    """It ends before its lines are made: all is known from its calls."""
    result = compare(command, live=True, options=[option])
    assert result.lines > 50
    assert result.different == []


def between(lines):
    """Those of the work, after the byte that starts it."""
    first = next(i for i, line in enumerate(lines) if line.startswith("read(0<"))
    last = next(i for i, line in enumerate(lines) if "write(1<" in line and '"done' in line)
    return [
        normal_but_numbers(line) for line in lines[first:last] if not line.startswith("read(0<")
    ]


def normal_but_numbers(line):
    return re.sub(r"\) +(= )", r") \1", line)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("option", ["-y", "-yy"])
def test_a_program_that_strace_traces_at_the_same_time(start, run_kwatch, tmp_path, option):
    """Every number is the same. Some descriptors are open before both attach."""
    target = start("descriptors", tmp_path)
    theirs = tmp_path / "strace.txt"
    kwatch = run_kwatch("trace", option, "--pid", target.pid)
    kwatch.attached()
    with subprocess.Popen(["strace", option, "-o", theirs, "-p", str(target.pid)]) as strace:
        try:
            status = Path(f"/proc/{target.pid}/status")
            wait_until(lambda: f"TracerPid:\t{strace.pid}" in status.read_text())
            target.go()
            kwatch.printed(lambda line: '"done' in line)
            ours = kwatch.stop().stdout
            target.end()  # strace ends with it; a signal may come between its look and its wait
            strace.wait(60)
        finally:
            strace.kill()
    expected = between(["read(0<", *theirs.read_text().splitlines()])
    assert len(expected) > 900
    assert between(["read(0<", *ours]) == expected


def test_descriptors_of_calls_that_are_not_shown(start, run_kwatch, tmp_path):
    """Their opens are traced, but not shown; each read is of the file that was open then."""
    target = start("descriptors", tmp_path)
    kwatch = run_kwatch("trace", "-y", "-e", "trace=pread64,read", "--json", "--pid", target.pid)
    kwatch.attached()
    answers = target.go()
    target.end()
    documents = [each for each in kwatch.finish().documents if each["kind"] == "call"]
    assert {each["name"] for each in documents} == {"read"}
    files = [each["args"][0].partition("<")[2] for each in documents]
    reused = [file for file in files if file in ("/etc/passwd>", "/dev/zero>")][1:]
    assert reused == [("/etc/passwd>", "/dev/zero>")[i % 2] for i in range(answers["reuses"])]


def test_children_have_the_descriptors_of_their_parents(run_kwatch):
    script = "cat </etc/passwd; cd /usr; exec cat <bin/sh >/dev/null"
    result = run_kwatch("trace", "-f", "-y", "-e", "trace=read", "--", "sh", "-c", script).finish()
    reads = [line for line in result.stdout if re.search(r"read\(0<", line)]
    files = {match[1] for line in reads if (match := re.search(r"read\(0<([^>]*)>", line))}
    assert files == {"/etc/passwd", str(Path("/usr/bin/sh").resolve())}


@pytest.mark.parametrize("how", ["received", "fetched"])
def test_a_number_that_is_used_again_is_never_called_what_it_is_not(run_kwatch, tmp_path, how):
    """SCM_RIGHTS and pidfd_getfd give sockets the numbers of those that were just closed."""
    lines = tmp_path / "lines.txt"
    command = ["/usr/bin/python3", PROGRAMS / "reused_descriptors.py", how]
    result = run_kwatch("trace", "-yy", "-o", lines, "--", *command).finish()
    told = [line.split() for line in result.stdout if re.match(r"\d+ ", line)]
    names = defaultdict(set)
    for inode, *each in told:
        names[inode].update(each)
    sends = re.findall(r'sendto\(\d+(?:<(.*?\])>)?, "inode (\d+)\.', lines.read_text())
    assert len(sends) == len(told) == 2 * 59
    wrong = [(label, inode) for label, inode in sends if label and label not in names[inode]]
    assert wrong == []
    assert any(label.startswith("TCP:") for label, _ in sends)
    assert any(label.startswith("UNIX-") for label, _ in sends)
