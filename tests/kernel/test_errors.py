# SPDX-License-Identifier: Apache-2.0
"""Bad input: one clear error or a quiet end, the right exit status, never a traceback."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import subprocess
import sys

import pytest

from kwatch.kernel import syscall

KWATCH = (sys.executable, "-m", "kwatch")


def run(*arguments, **how):
    return subprocess.run(
        [*KWATCH, *map(str, arguments)], capture_output=True, text=True, timeout=60, **how
    )


def assert_no_bug(result):
    """No traceback, and no report of an internal error."""
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr


def assert_error(result, status, *words):
    assert result.returncode == status, result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith("attached")]
    assert said[0].startswith("kwatch: ")
    assert len(said) <= 4
    for word in words:
        assert word in result.stderr
    assert_no_bug(result)


# As in --duration "$D" when D is not set.
EMPTY = (
    *("--duration", "--count", "--interval", "--older", "--min-size", "--max-size", "--buffer"),
    *("--wrapper", "--no-wrapper", "--who", "--alloc-prefix"),
)

USAGE = [
    ("--pid", "x"),
    ("--pid", "-1"),
    ("--pid", "0"),
    ("--pid", ""),
    ("--comm", ""),
    ("--comm", "a/b"),
    ("--interval", "0"),
    ("--interval", "nan"),
    ("--interval", "-1"),
    ("--count", "0"),
    ("--top", "x"),
    ("--buffer", "lots"),
    ("--buffer", "0"),
    ("--buffer", "1"),
    ("--buffer", "4095"),
    ("--buffer", "1025M"),
    ("--buffer", "1T"),
    ("--older", "-1"),
    ("--min-size", "9", "--max-size", "8"),
    *(("--pid", "1", option, "") for option in EMPTY),
    ("leaks", "--pid", "1", "--who", ""),
    ("-e", "trace=no_such_call"),
    ("-e", "trace=%nothing"),
    ("-e", "trace=/(/"),
    ("--no-heap", "--no-syscalls"),
    ("--no-heap", "-e", "trace=none", "--pid", "1"),
    ("-pid", "1"),
    ("--no-heap", "--pprof", "/dev/null"),
    ("--pid", "1", "--folded", "/tmp/x", "--output", "/tmp/x"),
    ("--pid", "1", "--folded", "-"),
    ("--no-such-option",),
    ("--who", "f"),
    ("--who", "f", "--no-heap", "--pid", "1"),
    ("--who", "f", "--no-stacks", "--pid", "1"),
    ("stray",),
    ("--follow",),
    ("-tt", "--pid", "1"),
    ("--",),
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage(arguments):
    assert_error(run(*arguments), 2)


def free_pid():
    """A number that is neither a process nor a thread."""
    with open("/proc/sys/kernel/pid_max") as file:
        pids = range(int(file.read()) - 1, 1, -1)
    return next(pid for pid in pids if not os.path.exists(f"/proc/{pid}"))


def test_no_such_process():
    pid = free_pid()
    assert_error(run("--pid", pid), 1, f"no process {pid}")


def test_a_process_that_has_ended():
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert_error(run("--pid", child.pid), 1, "has ended and waits for its parent")


def test_one_of_several_that_has_ended(start, run_kwatch):
    target, gone = start("leaky"), free_pid()
    kwatch = run_kwatch("--pid", f"{gone},{target.pid}", "--json", "--no-syscalls")
    kwatch.said(lambda line: line == f"kwatch: there is no process {gone}; the others are traced")
    assert f"leaky[{target.pid}]" in kwatch.attached()
    answers = target.go()
    target.end()
    result = kwatch.finish()
    assert (result.status, result.final()["heap"]["live_blocks"]) == (0, answers["live_blocks"])


def test_several_that_have_all_ended():
    gone = free_pid()
    assert_error(run("--pid", f"{gone},{gone - 1}"), 1, f"no process {gone}")


def test_one_of_several_that_ends_while_kwatch_attaches(start, run_kwatch):
    """kwatch waits in its first attach until the second process has ended."""
    first, second = start("leaky"), start("getppid", 1, 3)
    script = ENDS_MEANWHILE.format(pid=second.pid)
    pids = f"{first.pid},{second.pid}"
    kwatch = run_kwatch("--pid", pids, "--scan-at-exit", "--json", script=script)
    kwatch.said(
        lambda line: (
            line.startswith(f"kwatch: process {second.pid} (getppid) ended before kwatch")
            and line.endswith("; the others are traced")
        )
    )
    assert f"leaky[{first.pid}]" in kwatch.attached()
    first.go()
    first.end()
    result = kwatch.finish()
    assert result.status == 0
    assert result.final(first.pid)["verdict"] == "leak"
    assert result.final(second.pid)["verdict"] == "unsure"


ENDS_MEANWHILE = """
import os, signal, sys
from kwatch.cli import main
from kwatch.session.attaching import Attaching

attach = Attaching.attach

def first_ends_the_second(self, facts, **options):
    if facts.pid != {pid}:
        attach(self, facts, **options)
        os.kill({pid}, signal.SIGKILL)
        tasks = "/proc/{pid}/task"
        while len(os.listdir(tasks)) > 1 or " Z " not in open("/proc/{pid}/stat").read():
            pass
        return
    attach(self, facts, **options)

Attaching.attach = first_ends_the_second
sys.exit(main())
"""


def test_a_name_that_nobody_had():
    command = ("--comm", "nobody-has-this", "--duration", "0.1")
    result = run(*command)
    assert result.returncode == 1
    assert "nothing was traced: no process was named nobody-has-this" in result.stderr
    assert run(*command, "--fail-on-leak").returncode == 1


def test_kernel_thread():
    assert_error(run("--pid", 2), 1, "kernel thread")


def test_itself_is_not_there_to_trace():
    result = subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -m kwatch --pid "$$"'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert_error(result, 1, "does not trace itself")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-command-anywhere", "not in PATH"),
        ("/no/such/file", "no such file"),
        ("/etc", "directory"),
        ("/etc/passwd", "not executable"),
    ],
)
def test_command_that_cannot_be_run(command, words):
    assert_error(run("--", command), 1, command, words)


def test_command_that_is_no_program(tmp_path):
    path = tmp_path / "garbage"
    path.write_bytes(b"\x7fELF garbage")
    path.chmod(0o755)
    assert_error(run("--", path), 1, str(path))


def test_script_without_its_interpreter(tmp_path):
    path = tmp_path / "script"
    path.write_text("#!/no/such/python\n")
    path.chmod(0o755)
    assert_error(run("--", path), 1, str(path), "No such file")


def test_closed_standard_error():
    """Messages are dropped; they do not end up in the report."""
    for arguments, status in ((("--json", "--count", "x"), 2), (("--json", "--", "/no/file"), 1)):
        closed = ["sh", "-c", 'exec "$@" 2>&-', "sh", *KWATCH, *arguments]
        result = subprocess.run(closed, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout) == (status, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pid", "1"),
        ("--output", "-", "--", "true"),
        ("leaks", "--pid", "1"),
        ("mark", "--pid", "1"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_closed_standard_output(arguments):
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *KWATCH, *arguments]
    result = subprocess.run(closed, capture_output=True, text=True, timeout=60)
    assert_error(result, 1, "kwatch: standard output is closed\n")


def test_an_output_file_replaces_closed_standard_output(tmp_path):
    path = tmp_path / "report"
    command = [*KWATCH, "--no-heap", "--json", "--output", path, "--", "true"]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    assert subprocess.run(closed, timeout=60, check=False).returncode == 0
    assert json.loads(path.read_text())["process"]["comm"] == "true"


def test_another_users_process_without_root(tmp_path):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    result = subprocess.run(
        [*nobody, *KWATCH, "--pid", str(os.getpid())],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()},
    )
    assert_error(result, 1, "root")


def test_full_disk(start):
    target = start("leaky")
    result = run("--pid", target.pid, "--duration", "0.2", "--output", "/dev/full")
    assert_error(result, 1, "/dev/full", "No space left")
    target.go()
    assert target.end() == 0


def test_output_that_cannot_be_opened(start):
    target = start("leaky")
    assert_error(run("--pid", target.pid, "--output", "/no/such/dir/file"), 1, "/no/such/dir/file")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--help",), ("doctor",), ("doctor", "--json"), ("doctor", "--help")],
    ids=" ".join,
)
def test_full_disk_on_standard_output(arguments, unbuffered):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*KWATCH, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert_error(result, 1, "standard output", "No space left")
    assert len(result.stderr.splitlines()) == 2


def test_closed_pipe(start):
    target = start("leaky")
    command = f"{' '.join(KWATCH)} --pid {target.pid} --interval 0.1 --duration 2 | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.count("\n") == 1  # the `attached` line


def test_process_that_dies_while_it_is_attached():
    """The process was attached and has a report, or kwatch prints one error."""
    for seconds in (0.05, 0.3, 0.6, 0.8, 1):
        child = subprocess.Popen(["sleep", str(seconds)])
        result = run("--pid", child.pid, "--json", "--duration", "2")
        child.wait()
        assert_no_bug(result)
        if result.stderr.startswith("attached"):
            assert (result.returncode, len(result.stdout.splitlines())) == (0, 1)
        else:
            assert_error(result, 1, str(child.pid))
            assert result.stdout == ""


def test_status_of_a_launched_command():
    assert run("--", "sh", "-c", "exit 7").returncode == 7
    assert run("--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


def test_doctor_names_what_is_missing(tmp_path):
    """Without the bindings of bcc, `doctor` and `watch` print the same hint."""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "bcc.py").write_text("raise ImportError('not the BPF compiler collection')\n")
    environment = {**os.environ, "PYTHONPATH": f"{bare}:{os.getcwd()}"}
    doctor = run("doctor", env=environment)
    watch = run("--", "true", env=environment)
    assert doctor.returncode == 1
    assert "python3-bpfcc" in doctor.stdout
    assert_error(watch, 1, "bcc", "python3-bpfcc")


_SET_SECCOMP, _FILTER = 22, 2  # include/uapi/linux/prctl.h, seccomp.h
_FAIL, _ALLOW = 0x00050000 | errno.EPERM, 0x7FFF0000


def refuse(call):
    """Runs before an exec: makes the system call fail as a container's seccomp profile does."""
    number = syscall._NUMBERS[syscall.machine()][call]
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET
    steps = [(load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, _FAIL), (answer, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HQ", len(steps), ctypes.addressof(code)))
    assert ctypes.CDLL(None).prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0


@pytest.mark.parametrize("call", ["bpf", "perf_event_open"])
def test_what_the_machine_refuses_has_the_cure_of_doctor(start, call):
    target = start("leaky")
    doctor = run("doctor", "--json", preexec_fn=lambda: refuse(call))
    found = [json.loads(line) for line in doctor.stdout.splitlines()]
    broken = next(feature for feature in found if feature["needed"] and not feature["works"])
    for what in ("--heap", "--no-heap"):
        watch = run(what, "--pid", target.pid, preexec_fn=lambda: refuse(call))
        assert_error(watch, 1, "Operation not permitted", broken["cure"])


@pytest.mark.parametrize("most", [8, 20, 45])  # at once, amid the programs, amid the rings
def test_too_few_descriptors(most):
    limited = ("sh", "-c", f'ulimit -n {most}; exec "$@"', "sh")
    result = subprocess.run(
        [*limited, *KWATCH, "--", "true"], capture_output=True, text=True, timeout=60
    )
    assert_error(result, 1, "Too many open files", "ulimit -n")


def test_help_and_version():
    assert run("--help").stdout.startswith("usage: kwatch [TARGET]")
    assert run("doctor", "--help").returncode == 0
    assert run("--version").stdout.startswith("kwatch ")
