# SPDX-License-Identifier: Apache-2.0
"""What `kwatch record` writes of real programs, and what is left when it cannot go on."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from harness.waiting import wait_until

from kwatch.recording.store import unfinished

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from strace_compare.compare import aligned, normal, recorded_lines, traced_lines

LISTS = ["ls", "-lR", "/etc/apt"]
SPEAKS = [
    *(sys.executable, "-I", "-S", "-c"),
    "import os, socket; a, b = socket.socketpair(); a.sendmsg([b'hello', b'world']); b.recv(100);"
    "r, w = os.pipe(); os.writev(w, [bytes(10), b'y' * 50]); os.readv(r, [bytearray(100)])",
]
#: Ends by itself, and begins a process now and then.
WORKS = "for i in $(seq 40); do dd if=/dev/urandom of=/dev/null bs=4096 count=4; sleep 0.03; done"


def query(run_kwatch, run, sql):
    result = run_kwatch("query", run, "--json", sql).finish()
    assert result.status == 0, result.stderr
    return [json.loads(line) for line in result.stdout]


@pytest.mark.parametrize("command", [LISTS, SPEAKS], ids=["ls", "messages"])
def test_show_prints_what_trace_prints(command):
    tracer = [sys.executable, "-m", "kwatch", "trace"]
    traced = [normal(line) for line in traced_lines(tracer, command)]
    result = aligned([normal(line) for line in recorded_lines(command)], traced)
    assert result.lines > 50
    assert result.different == []


@pytest.mark.needs("strace")
def test_a_program_with_threads_has_the_calls_that_strace_counts(tmp_path, program, run_kwatch):
    """Of the same run: strace traces the program while kwatch records both."""
    log, run = tmp_path / "log", tmp_path / "run"
    traced = ["strace", "-f", "-o", log, program("threads"), "now"]
    # Threads that wait make as many calls as they can.
    result = run_kwatch("record", run, "-f", "--buffer", "32M", "--", *traced).finish()
    assert result.status == 0
    assert not [line for line in result.stderr if "not complete" in line]
    expected = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
    sql = "select name, count(*) as calls from syscalls where comm = 'threads' group by name"
    found = {each["name"]: each["calls"] for each in query(run_kwatch, run, sql)}
    # The program begins with the return of its execve, which strace's child has called.
    assert expected.pop("execve") == 1
    assert found == expected
    assert sum(found.values()) > 100
    ends = query(run_kwatch, run, "select count(*) as n from exits where comm = 'threads'")
    assert ends == [{"n": 9}]


def test_what_descriptors_refer_to(tmp_path, run_kwatch):
    """One is open when the recording begins, and a child gets another one in its place."""
    script = "read line; exec 7</etc/passwd; cat <&7 >/dev/null"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, text=True) as target:
        kwatch = run_kwatch("record", tmp_path / "run", "-f", "--pid", target.pid)
        kwatch.attached()
        target.communicate("go\n", timeout=60)
        assert kwatch.finish().status == 0
    shown = "\n".join(run_kwatch("show", "-y", tmp_path / "run").finish().stdout)
    assert re.search(r"read\(0<pipe:\[\d+\]>, ", shown)
    assert "dup2(7</etc/passwd>, 0" in shown
    assert "read(0</etc/passwd>, " in shown


def test_a_recorder_that_is_killed(tmp_path, run_kwatch):
    run = tmp_path / "run"
    target = subprocess.Popen(["sh", "-c", "while sleep 0.01; do :; done"])
    try:
        kwatch = run_kwatch("record", run, "--pid", target.pid, "-f", "--segment", "1")
        kwatch.attached()
        wait_until(lambda: any(run.glob("segments/*/*/*.json")) and any(unfinished(str(run))))
        kwatch.send(signal.SIGKILL)
        kwatch.finish()
    finally:
        target.kill()
        target.wait()
    shown = run_kwatch("show", run).finish()
    assert shown.status == 0
    assert len(shown.stdout) > 10
    assert any("were not finished" in line or "was not finished" in line for line in shown.stderr)
    (count,) = query(run_kwatch, run, "select count(*) as calls from syscalls")
    calls = [line for line in shown.stdout if not re.search(r"(---|\+\+\+) ", line)]
    assert count["calls"] == len(calls)


@pytest.fixture
def disk(tmp_path):
    """A file system of 640 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640k,mode=700", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def no_room_error(result):
    """The only error that was said."""
    assert result.status == 1
    assert not any("Traceback" in line or "Exception" in line for line in result.stderr)
    (error,) = [line for line in result.stderr if "No space left on device" in line]
    return error


def test_a_full_disk(disk, run_kwatch):
    """The command runs on, what was written before can be read, and the rest is removed."""
    options = ("-f", "--segment", "0.2", "--content", "4096")
    result = run_kwatch("record", disk / "run", *options, "--", "sh", "-c", WORKS).finish()
    assert "what was written before can be read" in no_room_error(result)
    assert not list(unfinished(str(disk / "run")))
    shown = run_kwatch("show", disk / "run").finish()
    assert shown.status == 0
    assert len(shown.stdout) > 100


def test_a_disk_that_is_full_from_the_start(disk, run_kwatch):
    """When there is room again, the recording can be made there."""
    with contextlib.suppress(OSError):
        (disk / "other").write_bytes(bytes(1 << 20))
    refused = run_kwatch("record", disk / "run", "--", "true").finish()
    assert "nothing was recorded" in no_room_error(refused)
    (disk / "other").unlink()
    assert run_kwatch("record", disk / "run", "--", "true").finish().status == 0


def test_runs_that_differ_in_what_a_file_holds(tmp_path, run_kwatch):
    """And two that do not, at other addresses and with other pids."""
    file = tmp_path / "configuration"
    for name, text in (("good", "color=on\n"), ("same", "color=on\n"), ("bad", "color=no\n")):
        file.write_text(text)
        options = ("--content", "64", "--", "cat", file)
        assert run_kwatch("record", tmp_path / name, *options).finish().status == 0
    same = run_kwatch("diff", tmp_path / "good", tmp_path / "same").finish()
    assert (same.status, same.stdout[2]) == (0, "no call differs")
    other = run_kwatch("diff", tmp_path / "good", tmp_path / "bad").finish()
    assert other.status == 1
    assert other.stdout[2].startswith("2 calls differ; 0 only")
    assert [line for line in other.stdout if line.startswith("-read(")]
    assert '  buf, byte 6: "on\\x0a" | "no\\x0a"' in other.stdout
