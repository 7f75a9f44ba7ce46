# SPDX-License-Identifier: Apache-2.0
"""Filters as text: what parses to what, and that an error shows its place."""

from __future__ import annotations

import pytest
from harness.filters import EXPRESSIONS, every_comparison
from hypothesis import example, given
from hypothesis import strategies as st

from kwatch.syscalls.filter.error import FilterError, _width
from kwatch.syscalls.filter.expression import And, Comparison, Not, Or, text_of
from kwatch.syscalls.filter.fields import FIELDS, Operator
from kwatch.syscalls.filter.parser import MAX_DEPTH, parse


def equal(field: str, *values: int | bytes | str, operator: str = "=") -> Comparison:
    return Comparison(FIELDS[field], Operator(operator), values)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (
            "comm = nginx and not (syscall in (read, write) or ret >= 0)",
            And(
                (
                    equal("comm", b"nginx"),
                    Not(
                        Or(
                            (
                                equal("syscall", "read", "write", operator="in"),
                                equal("ret", 0, operator=">="),
                            )
                        )
                    ),
                )
            ),
        ),
        ("pid=1 or pid==2 and not tid=3", "pid = 1 or (pid = 2 and (not tid = 3))"),
        ("(pid = 1 and (pid = 2)) and pid = 3", "pid = 1 and pid = 2 and pid = 3"),
        ("proc.name=x\nand\tthread.tid>1", "comm = x and tid > 1"),
        ("arg0 = 0x1F or arg0 = 0644 or arg0 = -0x1", "arg0 = 31 or arg0 = 420 or arg0 = -1"),
        ("arg1 = 0xffffffffffffff9c", "arg1 = -100"),
        ("duration in (1.5ms, .5s, 0, 7ns)", "duration in (1500us, 500ms, 0ns, 7ns)"),
        ("error in (EWOULDBLOCK, 2, 4000)", "error in (EAGAIN, ENOENT, 4000)"),
        ("class in (file, %net, %%stat)", "class in (%file, %net, %%stat)"),
        ("comm glob [!a]*! and comm!=x", "comm glob '[!a]*!' and comm != x"),
        (
            r"""path = "it's" or path = 'a\'\x41\xff\n\\'""",
            r"path = 'it\'s' or path = 'a\'A\xff\x0a\\'",
        ),
        ("path = 'and' or path = été", "path = \"and\" or path = 'été'"),
    ],
)
def test_parses(text: str, expression: object) -> None:
    assert parse(text) == (parse(expression) if isinstance(expression, str) else expression)


def test_the_text_of_a_comparison_is_that_comparison() -> None:
    comparisons = [*every_comparison()]
    assert [parse(text_of(comparison)) for comparison in comparisons] == comparisons


@given(EXPRESSIONS)
def test_the_text_of_a_filter_is_that_filter(expression) -> None:
    assert parse(text_of(expression)) == expression


@pytest.mark.parametrize(
    ("text", "marked", "message"),
    [
        ("", "", "it is empty"),
        ("comm > 3", ">", "comm is a text, which > does not compare"),
        ("pid contains 3", "contains", "pid is a number, which contains does not compare"),
        ("pid exists", "exists", "every call has pid"),
        ("pid = nginx", "nginx", "pid is a number"),
        ("pid = '7'", "'7'", "remove the quotes"),
        ("pid = 09", "09", "0644 (octal)"),
        ("ret = 9223372036854775808", "9223372036854775808", "more than 64 bits"),
        ("duration > 10", "10", "such as 10ms"),
        ("duration > 0.5ns", "0.5ns", "finer than a nanosecond"),
        ("error = ENOFILE", "ENOFILE", "did you mean ENFILE"),
        ("syscall = opennat", "opennat", "did you mean openat"),
        ("syscall glob opne*", "opne*", "matches no system call"),
        ("syscall = %file", "%file", "compare class"),
        ("class = netwrok", "netwrok", "did you mean network"),
        ("class = openat", "openat", "write: syscall = openat"),
        ("comm = systemd-journald", "systemd-journald", "write systemd-journal"),
        ("sycall = read", "sycall", "did you mean syscall"),
        ("foo.bar = 1", "foo.bar", "the fields are pid, tid, comm"),
        ("comm = nginx && ret < 0", "&&", "write and"),
        ("! comm = nginx", "!", "write not"),
        ("pid not in (1, 2)", "not", "put not before the field"),
        ("comm ~ nginx", "~", "write glob"),
        ("comm =~ nginx", "=~", "write glob"),
        ("evt.failed = true", "evt.failed", "write: error exists"),
        ("comm nginx", "nginx", "comm takes =, !=, in"),
        ("comm =", "", "expected a text"),
        ("comm = or pid = 1", "or", "'or'"),
        ("comm = nginx nginx", "nginx", "expected 'and', 'or' or the end"),
        ("path = /a(b)", "(", "quote a value"),
        ("pid = (1)", "(", "only in takes a list"),
        ("comm = a,b", ",", "write a list as: comm in (A, B)"),
        ("ret = -ENOENT", "-ENOENT", "write: error = ENOENT"),
        ("pid in 1", "1", "expected a list in parentheses"),
        ("pid in ()", ")", "expected a number"),
        ("pid in (1 2)", "2", "expected a comma"),
        ("pid in (1, 2", "(", "never closed"),
        ("(pid = 1", "(", "never closed"),
        ("pid = 1)", ")", "closes no parenthesis"),
        ("pid = 1 and", "", "expected a field"),
        ("comm = 'nginx", "'nginx", "never closed"),
        (r"comm = 'a\q'", r"\q", "is not an escape"),
        (r"comm = '\x00'", r"'\x00'", "null byte"),
        ("not " * (MAX_DEPTH + 1) + "pid = 1", "not", f"more than {MAX_DEPTH}"),
    ],
)
def test_an_error_shows_its_place_and_what_was_expected(text, marked, message) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)

    error = caught.value
    assert error.hint
    assert message in f"{error} {error.hint}"
    assert text[error.span.start : error.span.end] == marked


def test_the_caret_is_under_the_place() -> None:
    with pytest.raises(FilterError) as caught:
        parse("comm = 漢字 and\tsyscall = opne")

    _, expression, caret = str(caught.value).splitlines()
    assert expression == "    comm = 漢字 and syscall = opne"
    assert caret == " " * 4 + " " * len("comm = xxxx and syscall = ") + "^~~~"


def test_a_long_expression_is_cut_around_the_place() -> None:
    with pytest.raises(FilterError) as caught:
        parse(" and ".join([*["pid = 1"] * 50, "sycall = read", *["pid = 1"] * 50]))

    _, expression, caret = str(caught.value).splitlines()
    assert len(expression) <= 82
    assert expression[caret.index("^") :].startswith("sycall = read")
    assert caret.strip() == "^~~~~~"


WORDS = st.sampled_from(
    [
        *"and or not in = != < >= ( ) , ' \" \\ ! && % 0x 1ms -1 09 é \x00 \ud800 \x1b".split(" "),
        *[*FIELDS, "nginx", "openat", "ENOENT", "exists", "glob", "[z-a]", "9" * 5000],
    ]
)


def error_of(text: str) -> FilterError | None:
    try:
        assert parse(text_of(parse(text))) == parse(text)
    except FilterError as error:
        return error
    return None


@given(st.one_of(st.text(), st.lists(WORDS, max_size=12).map(" ".join)))
@example("(" * 10_000)
@example("pid = 1 or " * 10_000 + "pid = 1")
def test_any_text_is_a_filter_or_one_error(text) -> None:
    error = error_of(text)
    if error is None:
        return
    title, shown, caret = str(error).split("\n")
    assert error.hint
    assert all(line.isprintable() for line in (title, shown, caret, error.hint))
    assert 0 <= error.span.start <= error.span.end <= len(text)
    assert caret.strip(" ").strip("~") == "^"
    assert caret.index("^") <= 4 + sum(map(_width, shown[4:]))
