# SPDX-License-Identifier: Apache-2.0
"""`-e trace=SET`: what it selects, and that strace accepts and rejects the same."""

import os
import shutil
import subprocess

import pytest

from kwatch.errors import UsageError
from kwatch.syscalls.classes import CLASSES
from kwatch.syscalls.names import CALL_NUMBERS, all_names, everything
from kwatch.syscalls.select import numbers, parse_trace
from kwatch.wire.events import Abi

ACCEPTED = [
    *("openat", "trace=openat", "t=openat", "!openat", "read,,write", "?opne", "??opne,read"),
    *("%file,read", "file", "%net", "%%stat", "!%file,read", "all,read", "none", "!none"),
    *("/^[[:alpha:]]+at$", "/^(read|write){1}$", "/^open", "!/read", "?/nosuch", "?%nope", "?"),
]
REJECTED = [
    *("opne", "openat,opne", "READ", "trace=", ",", "!", "!!", "none,read", "read,!write"),
    *("%nope", "%all", "clock", "net", "creds", "/nosuch", "/[", "/a(", "/(?:open)"),
    *("/[[:nosuch:]]", "trace=trace=read", "nope=read"),
]


def accepts(expression: str) -> bool:
    try:
        parse_trace(expression)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("expression", ACCEPTED)
def test_accepts(expression: str) -> None:
    assert accepts(expression)


@pytest.mark.parametrize("expression", REJECTED)
def test_rejects(expression: str) -> None:
    assert not accepts(expression)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is absent")
@pytest.mark.parametrize("expression", ACCEPTED + REJECTED)
def test_strace_accepts_and_rejects_the_same(expression: str) -> None:
    ran = subprocess.run(
        ["strace", "-o", os.devnull, "-e", expression, "true"], stderr=subprocess.PIPE, text=True
    )
    if "ptrace" in ran.stderr.lower():
        pytest.skip(f"strace cannot trace here: {ran.stderr.strip()}")

    assert accepts(expression) == (ran.returncode == 0)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("openat,?nothing,close", {"openat", "close"}),
        ("stat", {"stat"}),
        ("%stat", {"stat", "stat64", "oldstat"}),
        ("%net", CLASSES["network"]),
        ("memory,read", CLASSES["memory"] | {"read"}),
        ("/^(p?read|write)v$", {"preadv", "readv", "writev"}),
        ("/^mm[[:alpha:]]p[[:digit:]]?$", {"mmap", "mmap2"}),
        ("none", set()),
        ("all", everything()),
        ("!none", everything()),
        ("!all", set()),
        ("!%file,read", everything() - CLASSES["file"] - {"read"}),
        ("!!read", {"read"}),
        ("syscall_999", {"syscall_999"}),
    ],
)
def test_selects(expression: str, names: set[str]) -> None:
    assert parse_trace(expression) == names


def test_a_complement_keeps_calls_newer_than_the_table() -> None:
    assert numbers(parse_trace("!read"), Abi.X86_64) == set(range(1, CALL_NUMBERS))


def test_numbers_are_those_of_the_abi() -> None:
    chosen = parse_trace("open,mmap2,read")

    assert numbers(chosen, Abi.X86_64) == {0, 2}
    assert numbers(chosen, Abi.I386) == {3, 5, 192}
    assert numbers(chosen, Abi.AARCH64) == {63}


@pytest.mark.parametrize(
    ("expression", "close"),
    [("opennat", "openat"), ("%netwrok", "%network"), ("clock", "%clock")],
)
def test_the_hint_names_what_was_probably_meant(expression: str, close: str) -> None:
    with pytest.raises(UsageError, match=f"'{expression}'") as caught:
        parse_trace(expression)

    assert close in caught.value.hint


@pytest.mark.parametrize("expression", ["0", "read@64"])
def test_what_strace_takes_and_kwatch_does_not_is_said(expression: str) -> None:
    with pytest.raises(UsageError, match="by name, on every ABI"):
        parse_trace(expression)


def test_classes_name_calls_of_the_table() -> None:
    assert frozenset().union(*CLASSES.values()) <= all_names()
