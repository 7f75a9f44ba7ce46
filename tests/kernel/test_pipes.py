# SPDX-License-Identifier: Apache-2.0
"""Pipes that nobody reads: signals end kwatch, a second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from harness.lines import DEADLINE, Lines
from harness.waiting import has_taken, wait_until

from kwatch.kernel.syscall import machine

KWATCH = (sys.executable, "-m", "kwatch")


@pytest.fixture
def full_pipe():
    """The end to write of a pipe without room."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def background():
    started = []

    def start(*arguments, **how):
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **how}
        started.append(subprocess.Popen([*KWATCH, *map(str, arguments)], **how))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2])
def test_standard_output_that_nobody_reads(start, background, full_pipe, numbers):
    target = start("leaky")
    kwatch = background("--pid", target.pid, "--interval", "0.05", stdout=full_pipe)
    said = Lines(kwatch.stderr)
    said.wait(lambda line: line.startswith("attached"))
    for number in numbers:
        kwatch.send_signal(number)
        wait_until(partial(has_taken, kwatch.pid, number))  # two at once would be one
    assert kwatch.wait(DEADLINE) == 1
    assert said.all()[1:] == [
        "kwatch: standard output cannot be written: its reader does not read it",
        "  write to another file",
    ]


def test_a_slow_reader_gets_the_report_after_a_signal(start, background, full_pipe):
    """The pipe is full when the signal comes, and it is read only then."""
    target = start("leaky")
    kwatch = background("--pid", target.pid, "--json", stdout=full_pipe)
    said = Lines(kwatch.stderr)
    said.wait(lambda line: line.startswith("attached"))
    kwatch.send_signal(signal.SIGINT)
    with open(f"/proc/{os.getpid()}/fd/{full_pipe}", "rb") as pipe:
        found = b""
        while b"}\n" not in found:
            found += os.read(pipe.fileno(), 65536)
    assert b'"final"' in found
    assert kwatch.wait(DEADLINE) == 0


def test_standard_error_that_nobody_reads(start, background, full_pipe, tmp_path):
    target, report = start("leaky"), tmp_path / "report"
    kwatch = background("--pid", target.pid, "--json", "-i", "0.1", "-o", report, stderr=full_pipe)
    deadline = time.monotonic() + DEADLINE
    while not (report.exists() and report.read_text()):  # it is attached, and cannot say so
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kwatch.send_signal(signal.SIGTERM)
    assert kwatch.wait(DEADLINE) == 0
    assert '"final"' in report.read_text()


def test_doctor_without_a_reader(background, full_pipe):
    kwatch = background("doctor", stdout=full_pipe)
    deadline = time.monotonic() + DEADLINE
    while is_busy(kwatch):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kwatch.send_signal(signal.SIGINT)
    assert kwatch.wait(DEADLINE) == 128 + signal.SIGINT


def is_busy(kwatch):
    """Whether it does anything but wait for room in the pipe, in write, select or pselect6."""
    with open(f"/proc/{kwatch.pid}/syscall") as file:
        number = file.read().split()[0]
    return number not in {"x86_64": ("1", "23", "270"), "aarch64": ("64", "72")}[machine()]


@pytest.mark.parametrize("option", ["--output", "--folded"])
def test_a_fifo_that_nobody_opens(start, background, tmp_path, option):
    target, fifo = start("leaky"), tmp_path / "fifo"
    os.mkfifo(fifo)
    kwatch = background("--pid", target.pid, option, fifo)
    said = Lines(kwatch.stderr)
    said.wait(lambda line: line == f"kwatch: waiting until {fifo} is opened for reading")
    kwatch.send_signal(signal.SIGTERM)
    assert kwatch.wait(DEADLINE) == 128 + signal.SIGTERM


def test_a_fifo_that_is_opened_late(start, background, tmp_path):
    target, fifo = start("leaky"), tmp_path / "fifo"
    os.mkfifo(fifo)
    kwatch = background("--pid", target.pid, "--json", "--duration", "0.1", "--output", fifo)
    said = Lines(kwatch.stderr)
    said.wait(lambda line: line.startswith("kwatch: waiting until"))
    assert '"final"' in fifo.read_text()
    assert kwatch.wait(DEADLINE) == 0
