# SPDX-License-Identifier: Apache-2.0
"""What the kernel decides of a filter, and what --explain says about it."""

from __future__ import annotations

import pytest

from kwatch.syscalls.filter.explain import explain
from kwatch.syscalls.filter.expression import text_of
from kwatch.syscalls.filter.in_kernel import MAX_TESTS
from kwatch.syscalls.filter.kernel_code import kernel_code
from kwatch.syscalls.filter.parser import parse
from kwatch.syscalls.filter.split import split


@pytest.mark.parametrize(
    ("expression", "entry", "exit_", "user"),
    [
        ("pid = 1 and class = file", "pid = 1 and class = %file", "", ""),
        ("pid = 1 and ret < 0 and path = /x", "pid = 1", "ret < 0", "path = /x"),
        ("not (pid = 1 or error exists)", "not pid = 1", "not error exists", ""),
        ("not not (pid = 1 and fd = 3)", "pid = 1", "", "fd = 3"),
        ("pid = 1 or ret < 0", "", "pid = 1 or ret < 0", ""),
        ("pid = 1 or path = /x", "", "", "pid = 1 or path = /x"),
        (
            "pid = 1 and path = /x or tid = 2 and ret < 0",
            "pid = 1 or tid = 2",
            "pid = 1 or tid = 2 and ret < 0",
            "pid = 1 and path = /x or tid = 2 and ret < 0",
        ),
        # What may be true under a `not` is what may be false inside it.
        ("not (pid = 1 and path = /x)", "", "", "not (pid = 1 and path = /x)"),
        (
            "not (path = /x and (pid = 1 or path = /y) or tid = 2)",
            "not tid = 2",
            "",
            "not (path = /x and (pid = 1 or path = /y))",
        ),
        ("not (path = /x or pid = 1) or fd = 3", "", "", "not (path = /x or pid = 1) or fd = 3"),
        ("comm glob ngin* and comm glob *x*", "comm glob ngin* and comm glob *x*", "", ""),
        ("comm glob n?inx and comm endswith x", "comm endswith x", "", "comm glob n?inx"),
        ("syscall glob *at and syscall glob *9*", "syscall glob *at", "", "syscall glob *9*"),
    ],
)
def test_where_the_parts_are_decided(expression, entry, exit_, user) -> None:
    parts = split(parse(expression))

    texts = [text_of(part) if part else "" for part in (parts.entry, parts.exit, parts.user)]
    assert texts == [entry, exit_, user]


def test_what_is_too_much_for_the_kernel_stays_in_user_space() -> None:
    pids = ", ".join(map(str, range(MAX_TESTS)))

    parts = split(parse(f"tid = 1 and pid in ({pids}) and uid = 0"))

    assert parts.entry == parse("tid = 1 and uid = 0")
    assert parts.user == parse(f"pid in ({pids})")
    assert "no more than" in explain(parse(f"tid = 1 and pid in ({pids}) and fd = 1"))
    assert "no more than" not in explain(parse("tid = 1 and fd = 1"))


def test_no_text_of_the_user_is_in_the_code() -> None:
    code = kernel_code(split(parse("comm = pwned and path = pwned and syscall != openat")))

    assert "pwned" not in code
    assert "openat" not in code


def test_the_code_says_whether_a_return_can_be_dropped() -> None:
    assert kernel_code(split(parse("uid = 0 and ret = 0"))).startswith("#define FILTER_AT_EXIT\n")
    assert "#define" not in kernel_code(split(parse("uid = 0")))


def test_explain() -> None:
    assert explain(parse("comm = nginx and error = ENOENT and path startswith /etc")) == "\n".join(
        [
            "filter:                comm = nginx and error = ENOENT and path startswith /etc",
            "kernel, at the entry:  comm = nginx",
            "kernel, at the return: error = ENOENT",
            "user space:            path startswith /etc",
            "  path: the kernel does not know it",
        ]
    )


def test_explain_warns_if_every_call_crosses_to_user_space() -> None:
    assert explain(parse("path = /x")).endswith("user space receives all of them")
    assert explain(parse("pid = 1")).endswith("nothing is left")
