# SPDX-License-Identifier: Apache-2.0
"""The lines about which processes are traced and which are not."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kwatch.commands.watch.messages import attached_line, uncalled_line, untraced_line
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.accounts import Accounts
from kwatch.processes.process_table import ProcessTable
from kwatch.procfs.mappings import Mapping
from kwatch.session.notices import Notices, Progress
from kwatch.session.tracees import Tracees
from kwatch.targets import processes
from kwatch.targets.launch import is_32_bit

BELOW_4_GIB = 0xF7F0_0000
THROUGH = "32-bit program: its system calls are traced, its heap is not"


@pytest.fixture
def tracees():
    """Coverage of no process, before anything is probed."""
    return SimpleNamespace(
        system=Coverage(EVERY_PROCESS),
        process_table=ProcessTable(),
        unreadable=set(),
        unmatched_prefixes=[],
    )


def code(start):
    return Mapping(start, start + 0x1000, 0, "/bin/any", 12, 0x801, True)


def add(tracees, pid, comm, start=1 << 44):
    process = tracees.process_table.add(
        ProcessFacts(pid, 1.0, comm, ""), Accounts.wanted(TraceOptions())
    )
    process.code.space.add(code(start))
    return process


def elf(path, bits):
    path.write_bytes(b"\x7fELF" + bytes([bits // 32]) + bytes(59))
    return str(path)


@pytest.mark.parametrize(
    ("globs", "said"), [(("nginx",), "nginx"), (("php*", "nginx"), "php* or nginx")]
)
def test_a_name_that_nobody_has(tracees, globs, said):
    line = attached_line(TraceOptions(comms=globs), tracees, None)
    assert line == f"attached to no process yet: none is named {said}"


def test_a_name_that_somebody_has(tracees):
    add(tracees, 7, "nginx")
    line = attached_line(TraceOptions(comms=("nginx",)), tracees, None)
    assert line == "attached to nginx[7]; heap: no allocator found yet; system calls: all"


def test_a_32_bit_program(tracees):
    add(tracees, 7, "wine", BELOW_4_GIB)
    line = attached_line(TraceOptions(pids=(7,)), tracees, None)
    assert line == f"attached to wine[7]; heap: not of wine[7] ({THROUGH}); system calls: all"
    line = attached_line(TraceOptions(pids=(7,), syscalls=False), tracees, None)
    assert line.endswith("(32-bit program: its heap is not traced)")
    line = attached_line(TraceOptions(pids=(7,), heap=False), tracees, None)
    assert "32-bit" not in line


def test_32_bit_programs_among_others(tracees):
    add(tracees, 7, "nginx").code.space.add(code(0x40_0000))  # not position-independent
    for pid in (8, 9):
        add(tracees, pid, "wine", BELOW_4_GIB)
    line = attached_line(TraceOptions(pids=(7, 8, 9)), tracees, None)
    assert "not of 2 processes such as wine[8] (32-bit programs: their system calls" in line
    assert "nginx" not in line


@pytest.mark.parametrize("bits", [32, 64])
def test_a_command_is_looked_at_before_its_exec(tracees, tmp_path, bits):
    script = tmp_path / "script"
    script.write_text(f"#!{elf(tmp_path / 'interpreter', bits)}\n")
    for path in (str(script), str(tmp_path / "interpreter")):
        assert is_32_bit(path) == (bits == 32)
    tracees.process_table.add(ProcessFacts(7, 1.0, "python3", ""), Accounts.wanted(TraceOptions()))
    launched = SimpleNamespace(pid=7, path=str(script))
    line = attached_line(TraceOptions(command=("./script",)), tracees, launched)
    assert line.startswith("attached to ./script[7]; heap: ")
    assert (f"not of ./script[7] ({THROUGH})" in line) == (bits == 32)


def test_a_file_that_cannot_be_read_has_no_bits(tmp_path):
    assert not is_32_bit(str(tmp_path / "none"))


def test_the_verdict_on_a_32_bit_program():
    tracer = SimpleNamespace(
        attacher=SimpleNamespace(reads_all_registers=True, spares_returns=True)
    )
    notices = Notices(lambda line: None)
    for syscalls, reason in ((True, THROUGH), (False, "32-bit program: its heap is not traced")):
        tracees = Tracees(
            TraceOptions(syscalls=syscalls), tracer, None, notices, lambda process: None
        )
        process = tracees.register(ProcessFacts(7, 1.0, "wine", ""))
        process.code.space.add(code(BELOW_4_GIB))
        assert tracees.gap(process) == reason
        process.code.space.add(code(1 << 44))
        assert "32-bit" not in tracees.gap(process)


def children(*comms):
    return [ProcessFacts(12 + i, 1.0, comm, "") for i, comm in enumerate(comms)]


def test_functions_that_were_not_called(tracees):
    line = uncalled_line(add(tracees, 7, "nginx"), "libc.so.6", 9)
    assert line.startswith(
        "kwatch: nginx[7]: 0 calls so far to the 9 probed functions of libc.so.6"
    )
    assert "it was idle, or uses another allocator" in line


@pytest.mark.parametrize(
    ("is_terminal", "steps", "said"), [(True, 11, 1), (True, 1, 0), (False, 11, 0)]
)
def test_a_long_attach_is_told_once_on_a_terminal(monkeypatch, is_terminal, steps, said):
    """Not at its end, and not within the first seconds."""
    lines, times = [], itertools.count(100)
    monkeypatch.setattr("kwatch.system.stdio.is_watched", lambda: is_terminal)
    monkeypatch.setattr("kwatch.session.notices.time", SimpleNamespace(monotonic=times.__next__))
    progress = Progress(Notices(lines.append), 12)
    for _ in range(steps):
        progress.step()
    assert lines == ["kwatch: attaching to 12 processes ..."] * said


def test_children_that_run_already():
    line = untraced_line(children("nginx", "nginx"))
    assert line.endswith("2 existing children are not traced: add --pid 12,13 or --comm nginx")
    line = untraced_line(children("a b"))
    assert line.endswith("1 existing child is not traced: add --pid 12 or --comm 'a b'")
    assert untraced_line(children("nginx", "sh")).endswith(": add --pid 12,13")
    assert untraced_line(children(*["sh"] * 9)).endswith(": add --comm sh")
    assert untraced_line(children(*map(str, range(9)))).endswith(": add their --pid or --comm")


FORKS = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input(1)'])"


def test_descendants_are_those_that_are_no_targets():
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.read(1) == "1"
    (child,) = processes.descendants({parent.pid})
    assert processes.descendants({parent.pid, child}) == []
    targets: set[int] = set()
    tracer = SimpleNamespace(
        attacher=SimpleNamespace(reads_all_registers=True, spares_returns=True), targets=targets
    )
    notices = Notices(lambda line: None)
    tracees = Tracees(TraceOptions(follow=True), tracer, None, notices, lambda process: None)
    tracees.register(processes.facts(parent.pid))
    targets.add(parent.pid)
    assert [facts.pid for facts in tracees.untraced_children()] == [child]
    targets.add(child)
    assert tracees.untraced_children() == []
    parent.communicate("\n", timeout=30)


def test_kwatch_is_nobodys_child():
    """For example when it traces the shell that runs it through sudo."""
    assert os.getpid() not in processes.descendants({os.getppid()})
    assert os.getppid() not in processes.descendants({1})
