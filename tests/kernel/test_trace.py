# SPDX-License-Identifier: Apache-2.0
"""`kwatch trace` writes the lines that strace writes of the same program."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from harness.target import answers
from strace_compare.compare import compare

PYTHON = [sys.executable, "-I", "-S", "-c"]
MESSAGES = """
import os, socket, select, struct
one, other = socket.socketpair()
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('i', 1))]
one.sendmsg([b'hello', b'world'], rights)
other.recvmsg(100, 100)
r, w = os.pipe()
os.writev(w, [bytes(10), b'y' * 50, b''])
os.readv(r, [bytearray(4), bytearray(100)])
poll = select.poll()
poll.register(other, select.POLLOUT)
poll.poll(1)
epoll = select.epoll()
epoll.register(one, select.EPOLLOUT)
epoll.poll(1)
"""

COMMANDS = {
    "ls": ["ls", "-lR", "/etc/apt"],
    "cat": ["cat", "/etc/passwd", "/nonexistent/" + "long" * 100],
    "find": ["find", "/usr/share/doc/bash", "-newer", "/etc/passwd"],
    "messages": [*PYTHON, MESSAGES],
}


@pytest.mark.needs("strace")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_lines_are_those_of_strace(command):
    result = compare(command, live=True)
    assert result.lines > 50
    assert result.different == []


@pytest.mark.needs("strace")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the i386 ABI is one of x86")
def test_calls_of_32_bits(program):
    result = compare([str(program("calls32"))], live=True)
    assert result.lines > 10
    assert result.different == []


def by_thread(lines):
    """The names and results of the calls of each thread, in its order."""
    unfinished, found = {}, {}
    for line in lines:
        tid, text = line.split(None, 1)
        if text.endswith("<unfinished ...>"):
            unfinished[tid] = text.split("(")[0]
            continue
        if resumed := re.match(r"<\.\.\. (\w+) resumed>", text):
            name = unfinished.pop(tid)
            assert name == resumed[1]
        elif text.startswith(("---", "+++")):
            name = text.split(",")[0]
        else:
            name = text.split("(")[0]
        result = re.search(r" = (-?\w+)[^=]*$", text)
        is_number = result is not None and name not in VARIES
        found.setdefault(tid, []).append((name, result[1] if is_number else ""))
    return list(found.values())


#: Calls whose results are pids and addresses, and what depends on the order of two processes.
VARIES = {
    "brk",
    "mmap",
    "clone",
    "clone3",
    "wait4",
    "getpid",
    "getppid",
    "set_tid_address",
    "vfork",
}
SCRIPT = "/bin/true; (exit 3); cat /etc/passwd >/dev/null; exec /bin/false"


@pytest.mark.needs("strace")
def test_children_and_their_ends(tmp_path, run_kwatch):
    """Each process has the same calls in the same order, and ends as strace says."""
    command = ["sh", "-c", SCRIPT]
    theirs, ours = tmp_path / "strace", tmp_path / "kwatch"
    subprocess.run(["strace", "-f", "-o", theirs, *command], check=False)
    result = run_kwatch("trace", "-f", "-o", ours, "--", *command).finish()
    assert result.status == 1
    expected, found = (by_thread(path.read_text().splitlines()) for path in (theirs, ours))
    # The parent may be in any call when a child ends.
    drop = {"rt_sigreturn", "--- SIGCHLD {si_signo=SIGCHLD"}
    for threads in (expected, found):
        threads[:] = [[each for each in calls if each[0] not in drop] for calls in threads]
    assert sorted(found) == sorted(expected)
    assert len(found) == 4


def test_threads_in_their_own_order(start, run_kwatch):
    """Every thread's calls are all there, one after the other."""
    target = start("threads")
    kwatch = run_kwatch("trace", "--pid", target.pid, "--json", "--buffer", "64M")
    kwatch.attached()
    target.go()
    target.end()
    result = kwatch.finish()
    assert not [line for line in result.stderr if "not complete" in line]
    ends, last = Counter(), {}
    for each in result.documents:
        tid = each["tid"]
        if each["kind"] == "exit":
            ends[tid] += 1
            continue
        assert tid not in ends, "a call after the thread's end"
        if each["kind"] == "call" and each["duration_ns"] is not None:
            assert each["ts_ns"] >= last.get(tid, 0), "it began before the one before had ended"
            last[tid] = each["ts_ns"] + each["duration_ns"]
    assert len(ends) == 9
    assert set(ends.values()) == {1}


def test_a_call_that_never_returns(start, run_kwatch):
    target = start("contents", 1)
    kwatch = run_kwatch("trace", "--pid", target.pid)
    kwatch.attached()
    target.go()
    kwatch.printed(lambda line: line.startswith('write(1, "done'))
    target.kill()
    lines = kwatch.finish().stdout
    begin = r"(read\(0, |<\.\.\. read resumed>)"  # after a second, it has a line already
    assert re.fullmatch(begin + r"0x\w+, 1 <unfinished \.\.\.>\) = \?", lines[-2])
    assert lines[-1] == "+++ killed by SIGKILL +++"


def test_calls_in_progress_at_the_end(start, run_kwatch):
    """The target waits for a byte: a call that has begun before the attach is not known."""
    target = start("getppid", 2, 1009)
    kwatch = run_kwatch("trace", "--pid", target.pid, "-e", "trace=read,write")
    kwatch.attached()
    assert target.go()
    kwatch.printed(lambda line: line.startswith('write(1, "done'))
    result = kwatch.stop()
    assert [line for line in result.stdout if "detached" in line] == [
        line
        for line in result.stdout
        if re.fullmatch(r"(read\(0, |<\.\.\. read resumed>)0x\w+, 1 <detached \.\.\.>", line)
    ]
    assert result.stdout[-1].endswith("<detached ...>")


def test_contents_that_are_not_resident_at_the_entry(start, run_kwatch):
    """Paths are read again at the return; what nothing reads is shown as an address."""
    target = start("absent")
    options = ("-e", "trace=execve,access,faccessat,faccessat2,pwrite64")
    kwatch = run_kwatch("trace", "--pid", target.pid, *options)
    kwatch.attached()
    target.go()
    target.end()
    execve, *lines = kwatch.finish().stdout
    words = ", ".join(['"word"'] * 4)
    assert re.match(rf'execve\("/absent/program", \[{words}\], 0x\w+ /\* 4 vars \*/\)', execve)
    paths = [re.search(r'"([^"]*)"', line) for line in lines]
    assert [path[1] for path in paths if path] == ["/absent/whole", "/absent/half"]
    assert re.fullmatch(r"pwrite64\(\d+, 0x[0-9a-f]+, 16, 0\) += 16", lines[2])


@pytest.mark.parametrize(("option", "expected"), [("0", '""...'), ("7", '"block 0"...')])
def test_as_much_of_a_buffer_as_the_user_asks_for(start, run_kwatch, option, expected):
    target = start("contents", 1, 100)
    kwatch = run_kwatch("trace", "--pid", target.pid, "-e", "trace=pwrite64", "-s", option)
    kwatch.attached()
    target.go()
    target.end()
    (line,) = [line for line in kwatch.finish().stdout if line.startswith("pwrite64")]
    assert f", {expected}, 100, 0)" in line


def test_call_stacks(run_kwatch, program):
    command = ["trace", "-k", "-e", "trace=access", "--", program("requests"), "now"]
    lines = run_kwatch(*command).finish().stdout
    stacks = "\n".join(line for line in lines if line.startswith(("access", " >")))
    found = re.findall(
        r'^access\("/requests/.*\n > access\+.*\n > handle\+.*\n > main\+', stacks, re.M
    )
    assert len(found) == answers(lines)["requests"]


@pytest.mark.parametrize(("option", "kept"), [("-Z", {"ENOENT"}), ("-z", set())])
def test_only_calls_that_fail_or_succeed(run_kwatch, option, kept):
    result = run_kwatch("trace", option, "--json", "--", "cat", "/nonexistent").finish()
    errors = {each["error"] for each in result.documents if each["kind"] == "call"}
    assert kept <= errors
    assert (None in errors) == (option == "-z")


FILTERS = {
    "error = ENOENT": lambda each: each["error"] == "ENOENT",
    "comm = sh and syscall in (openat, execve)": lambda each: (
        each["comm"] == "sh" and each["name"] in ("openat", "execve")
    ),
    "path endswith hostname": lambda each: any(arg.endswith('hostname"') for arg in each["args"]),
    "not ret exists": lambda each: each["ret"] is None,
    "fd = 1 or arg0 = 1": lambda each: each["arg0"] == 1,
    "uid = 1": lambda each: False,
}


@pytest.mark.parametrize("expression", FILTERS)
def test_a_filter_shows_the_calls_for_which_it_is_true(run_kwatch, expression):
    """In the kernel and in user space, as told from a trace of everything."""
    command = ["sh", "-c", "cat /etc/hostname /nonexistent"]
    options = ("trace", "-f", "--json", "-e", "trace=!futex")
    everything = run_kwatch(*options, "--", *command).finish().documents
    found = run_kwatch(*options, "--filter", expression, "--", *command).finish().documents
    calls = [each for each in everything if each["kind"] == "call"]
    expected = Counter((each["comm"], each["name"]) for each in filter(FILTERS[expression], calls))
    assert Counter((each["comm"], each["name"]) for each in found) == expected
    assert expected or expression == "uid = 1"


def test_a_command_runs_on_when_its_trace_cannot_be_written(run_kwatch):
    kwatch = run_kwatch("trace", "-o", "/dev/full", "--", "sh", "-c", "sleep 1; echo over")
    result = kwatch.finish()
    assert result.stdout == ["over"]
    assert result.status == 1
    assert any("/dev/full cannot be written" in line for line in result.stderr)


def test_an_exec_by_another_thread(program, run_kwatch):
    """It returns as the first thread, with what it was given before."""
    result = run_kwatch("trace", "-e", "trace=execve", "--", program("threadexec"), "now").finish()
    execs = [line for line in result.stdout if "execve(" in line]
    assert len(execs) >= 2
    assert all(re.search(r'execve\("[^"]+", \["', line) for line in execs)
