# SPDX-License-Identifier: Apache-2.0
"""The lists that tools/vm reads: every kernel is complete and every test exists."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line.split()
    for line in (ROOT / "tests" / "guests.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_every_listed_test_exists():
    ids = [row[0] for row in ROWS]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", *ids]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_some_are_for_the_short_form():
    assert 0 < sum(row[1:] == ["short"] for row in ROWS) < len(ROWS)
    assert all(row[1:] in ([], ["short"]) for row in ROWS)


@pytest.fixture
def vm(monkeypatch):
    """The modules of tools/vm, which become a package when tools/vm runs."""
    monkeypatch.syspath_prepend(ROOT / "tools")


def test_the_kernels_are_complete(vm):
    from vm.kernels import kernels

    names = [kernel.name for kernel in kernels()]
    assert len(set(names)) == len(names)
    for architecture in ("arm64", "x86_64"):
        for version in ("5.10", "6.1", "6.12", "sid"):
            assert f"{architecture}-{version}" in names


def test_a_report_has_every_test_and_why_it_was_skipped(vm, tmp_path):
    from vm.guest import Ending
    from vm.report import Result, read_outcomes, table

    lines = tmp_path / "report"
    lines.write_text(
        '{"test": "tests/kernel/a.py::b", "outcome": "running", "why": "", "seconds": 0}\n'
        '{"test": "tests/kernel/a.py::b", "outcome": "passed", "why": "", "seconds": 1}\n'
        '{"test": "tests/kernel/a.py::c", "outcome": "skipped", "why": "no x32", "seconds": 0}\n'
    )
    good = Result("arm64-6.1", Ending(0, 60.0), "", read_outcomes(lines))
    lines.write_text(
        '{"test": "tests/kernel/a.py::b", "outcome": "running", "why": "", "seconds": 0}\n'
        '{"test": "tests/kernel/a.py::b", "outc'  # the guest went down
    )
    ending = Ending(None, 90.0, 9.0, "the guest went down\n    Kernel panic")
    dead = Result("arm64-5.10", ending, "a line of pytest's", read_outcomes(lines))
    said = table([good, dead])
    assert good.good
    assert not dead.good
    assert "a.py::b  ok         HUNG\n" in said
    assert "skipped on arm64-6.1: a.py::c: no x32" in said
    assert "arm64-5.10: a.py::b did not end\n" in said
    assert "arm64-5.10: the guest went down\n    a line of pytest's" in said


@pytest.mark.parametrize(
    ("signs", "said"),
    [(0, "the guest did not boot within"), (1, "the guest gave no sign of life for")],
)
def test_a_guest_that_says_nothing_is_given_up(vm, tmp_path, monkeypatch, signs, said):
    from vm import guest

    monkeypatch.setattr(guest, "BOOT_LIMIT", 0.3)
    monkeypatch.setattr(guest, "SILENCE_LIMIT", 0.3)
    (tmp_path / "alive").write_bytes(bytes(signs))
    with subprocess.Popen(["sleep", "60"]) as process:
        assert guest._watch(process, tmp_path, 60, lambda: None, Event()).startswith(said)
        process.kill()


def test_a_guest_that_cannot_be_made_does_not_take_the_others_along(vm, tmp_path, monkeypatch):
    from vm import cli
    from vm.kernels import kernels

    class NoKernel:
        def __init__(self, *_):
            pass

        def guest(self, kernel):
            return [][0]  # as when a package has no kernel image

    monkeypatch.setattr(cli, "Cache", NoKernel)
    arguments = SimpleNamespace(cache=tmp_path)
    (result,) = cli._test_all([next(iter(kernels()))], partial(cli._test, [], tmp_path, arguments))
    assert not result.good
    assert "could not be tested: IndexError" in cli.table([result])


def test_an_interrupt_ends_the_guests_that_run_and_boots_no_more(vm):
    from vm import cli
    from vm.kernels import kernels

    begun, ended = [], []

    def test(stop, kernel):
        begun.append(kernel)
        if len(begun) == 1:
            raise KeyboardInterrupt
        ended.append(stop.wait(60))

    with pytest.raises(KeyboardInterrupt):
        cli._test_all(list(kernels()), test)
    assert all(ended)
    assert len(begun) <= 3


def test_a_report_made_elsewhere_is_held_to_what_was_done_there(vm, tmp_path, monkeypatch):
    from harness import exchange
    from vm.kernels import names_of

    def saved(name, calls, expected=101):
        rows = [{"name": name, "calls": calls}]
        final = {"kind": "final", "process": {"pid": 7}, "syscalls": {"by_name": rows}}
        counts = {7: {name: expected}} if expected else {}
        exchange.save(name, ["a line of the program's", json.dumps(final)], counts)
        return list(exchange.mismatches(tmp_path / f"{name}.jsonl", names_of("aarch64")))

    monkeypatch.setenv(exchange.VARIABLE, str(tmp_path))
    assert saved("open", 101) == []  # only 32-bit ARM has it there
    assert saved("getppid", 100) == ["getppid: 100 x getppid in 7, and not 101"]
    assert saved("iopl", 101) == ["iopl: no system call of its machine is named iopl"]
    assert saved("unknown", 101) == []  # the program made calls that no kernel has
    assert saved("unknown", 1, expected=0) == ["unknown: 1 x unknown in 7, and not 0"]


STAND_IN = """
require "ostruct"
class Machine < BasicObject
  def initialize(name) = @name = name
  def define(name, **)
    yield ::Machine.new(name)
  end
  def provision(_, inline:) = ::Kernel.puts("#{@name} #{inline}")
  def provider(_) = yield(self)
  def method_missing(name, *arguments, **) = self
end
module Vagrant
  def self.configure(_) = yield(Machine.new("all"))
end
load "Vagrantfile"
"""


@pytest.mark.needs("ruby")
def test_the_vagrantfile_has_every_kernel(vm):
    """Evaluates it with a stand-in for Vagrant that prints what it would provision."""
    from vm.kernels import kernels

    done = subprocess.run(
        ["ruby", "-e", STAND_IN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    provisioned = done.stdout.splitlines()
    for kernel in kernels():
        assert f"{kernel.name} /vagrant/tools/setup test" in provisioned
    assert "x86_64-5.10 /vagrant/tools/setup kernel bullseye" in provisioned
    assert "x86_64-6.1 /vagrant/tools/setup kernel bookworm" not in provisioned
