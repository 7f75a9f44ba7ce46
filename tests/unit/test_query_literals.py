# SPDX-License-Identifier: Apache-2.0
"""Hexadecimal numbers of a statement become decimal ones, and nothing else changes."""

from __future__ import annotations

import re

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kwatch.errors import UsageError
from kwatch.recording.literals import decimal_literals


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 0x10", "select 16"),
        ("select arg2&0XfF=0x0,0b101, 0o17", "select arg2&255=0,5, 15"),
        ("select -0x10", "select -16"),
        ("select 0x7fff_ffff_ffff_ffff", "select 9223372036854775807"),
        ("select -0xffffffffffffff9c", "select -(-100)"),
        ("'it''s 0x10', 0x1", "'it''s 0x10', 1"),
        ("e'\\' 0x10', 0x1", "e'\\' 0x10', 1"),
        ('"a""0x10", 0x1', '"a""0x10", 1'),
        ("$$ 0x10 ' $$, 0x1", "$$ 0x10 ' $$, 1"),
        ("$a$ 0x10 $$ $b$ $a$, 0x1", "$a$ 0x10 $$ $b$ $a$, 1"),
        ("1 -- 0x10\n, 0x1", "1 -- 0x10\n, 1"),
        ("1 -- 0x10\r, 0x1", "1 -- 0x10\r, 1"),
        ("1 /* 0x10 /* */ ' 0x10 */, 0x1", "1 /* 0x10 /* */ ' 0x10 */, 1"),
        ("t.c0x1, a0x1, _0x1, $0x1, 10x1", "t.c0x1, a0x1, _0x1, $0x1, 10x1"),
        ("0.0x1", "0.0x1"),
        ("'open 0x10", "'open 0x10"),
        ("/* open 0x10", "/* open 0x10"),
        ("é0x1, 0x1", "é0x1, 1"),
    ],
)
def test_numbers(sql, expected):
    assert decimal_literals(sql) == expected


@pytest.mark.parametrize(
    "text", ["0x", "0xg", "0x1g", "0b2", "0o8", "0x_", "0x1__0", "0x1" + 16 * "0"]
)
def test_what_is_no_number(text):
    with pytest.raises(UsageError, match=text):
        decimal_literals(f"select {text}")


PARTS = st.sampled_from(
    ["N", "N", "'", "''", '"', "$$", "$a$", "--", "/*", "*/", "\n", "\\", "e'", "x", " ", ",", "1"]
)


@settings(max_examples=300)
@example(["1", "N", "$$", ",", "N"])
@example(["1", "$$", " ", "N", "$$"])
@given(st.lists(PARTS, max_size=12))
def test_duckdb_divides_a_statement_at_the_same_places(parts):
    """What is a number to DuckDB, and not part of a string, a name or a comment."""
    numbers = (f"0x{number:x}" for number in range(0x1000, 0x2000))
    sql = "select " + "".join(p.replace("N", next(numbers)) for p in parts)
    try:
        changed = decimal_literals(sql)
    except UsageError:
        return
    tokens = dict(duckdb.tokenize(sql))
    for found in re.finditer(r"(?<!\$)0x1[0-9a-f]{3}", sql):  # $0 is a parameter
        is_number = tokens.get(found.start()) == duckdb.token_type.numeric_const
        assert (found[0] not in changed) == is_number, (sql, changed, tokens)


def test_the_values_that_duckdb_has():
    sql = 'select 0x10 + 1, \'0x10\', 0xffffffffffffffff, -- 0x1\n "0x2" from (select 0b1 as "0x2")'
    assert duckdb.execute(decimal_literals(sql)).fetchall() == [(17, "0x10", -1, 1)]
