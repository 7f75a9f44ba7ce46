# SPDX-License-Identifier: Apache-2.0
"""Errors about a command line: what is wrong with it and what to write instead."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kwatch import cli
from kwatch.cli import _parse
from kwatch.commands.watch.command import options_from
from kwatch.errors import UsageError


def usage_error(line):
    with pytest.raises(UsageError) as caught:
        options_from(_parse("watch", line.split()))
    return caught.value


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("ls", "kwatch -- ls"),
        ("ls -l /tmp", "kwatch -- ls -l /tmp"),
        ("-f --no-heap ls -l", "kwatch -f --no-heap -- ls -l"),
        ("--comm ls ls", "kwatch -- ls"),
        ("1234", "kwatch --pid 1234"),
        ("-p 12 34 56 -i 5", "kwatch --pid 12,34,56"),
    ],
)
def test_a_word_alone(line, instead):
    assert usage_error(line).hint.endswith(f": {instead}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-tt -p 1", "kwatch trace"),
        ("-s 100 -p 1", "kwatch trace"),
        ("-T -p 1", "kwatch trace"),
        ("-C -p 1", "--no-heap"),
        ("-c ls", "--no-heap"),
        ("-k -p 1", "--stacks"),
        ("-u nobody id", "setpriv"),
    ],
)
def test_a_flag_of_strace(line, words):
    error = usage_error(line)
    assert "unrecognized" in str(error)
    assert words in error.hint
    assert "\n" not in error.hint


@pytest.mark.parametrize("line", ["--no-such-option", "-Q", "--top", "ls -- -l"])
def test_what_nothing_is_known_of(line):
    assert usage_error(line).hint == "try `kwatch --help`"


def test_an_option_that_is_misspelt():
    assert usage_error("--duraton 3").hint == "did you mean --duration?"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("leak --pid 1", "kwatch leaks --pid 1"),
        ("--pid 1 leaks", "kwatch leaks --pid 1"),
        ("--pid 1 --why 0x10 leaks", "kwatch leaks --pid 1 --why 0x10"),
        ("doctr", "kwatch doctor"),
        ("--pid 1 mark", "kwatch mark --pid 1"),
    ],
)
def test_a_command_that_is_misspelt_or_misplaced(line, meant):
    assert usage_error(line).hint == f"did you mean `{meant}`?"


@pytest.mark.parametrize("pids", ["12 34", "12\n34\n", "12,34", "12, 34"])
def test_pids_as_other_tools_print_them(pids):
    assert options_from(_parse("watch", ["-p", pids]))[0].pids == (12, 34)


def test_a_selection_of_nothing():
    assert "traces none" in str(usage_error("--no-syscalls -e read -p 1"))


def test_follow_without_a_target():
    error = usage_error("-f")
    assert "needs a target" in str(error)
    assert "--pid" in error.hint
    for target in ("-p 1", "--comm sh", "-- sh"):
        assert options_from(_parse("watch", ["-f", *target.split()]))[0].follow


def test_an_empty_name():
    error = usage_error("--comm=")
    assert "is not empty" in str(error)
    assert "nginx" in error.hint


def test_a_memory_error_is_reported(monkeypatch, capsys):
    def run(arguments):
        raise MemoryError

    monkeypatch.setattr(cli, "_parse", lambda name, words: None)
    monkeypatch.setattr(cli, "command_module", lambda name: SimpleNamespace(run=run))
    assert cli.main([]) == 1
    assert "kwatch: out of memory" in capsys.readouterr().err
