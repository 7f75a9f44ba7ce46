# SPDX-License-Identifier: Apache-2.0
"""Sizes, times and counts, read and written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.errors import UsageError
from kwatch.units import (
    counted,
    format_count,
    format_growth,
    format_ns,
    format_seconds,
    format_size,
    parse_seconds,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("0", 0),
        ("10B", 10),
        ("64K", 65536),
        ("64KiB", 65536),
        ("64kb", 65536),
        ("1.5M", 1572864),
        (" 8 m ", 8 << 20),
        ("2T", 2 << 40),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.5", 0.5), ("500ms", 0.5), ("250us", 25e-5), ("2m", 120), ("1h", 3600)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


def test_no_time_where_that_means_something() -> None:
    assert [parse_seconds(text, or_zero=True) for text in ("0", "0.0", "0ms")] == [0, 0, 0]


NOT_NUMBERS = ["", " ", "-1", "+1", "nan", "inf", "1e3", "1_000", "1,000", "K", ".", "٣", "0x10"]


@pytest.mark.parametrize("text", [*NOT_NUMBERS, "1P", "1iB", "1ms", "8388608T", "9" * 5000])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size") as caught:
        parse_size(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", [*NOT_NUMBERS, "0", "0.0s", "1K", "36501d", "9" * 5000])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time") as caught:
        parse_seconds(text)
    assert caught.value.hint


@given(st.text())
def test_no_text_is_anything_but_a_value_or_a_usage_error(text: str) -> None:
    for parse in (parse_size, parse_seconds):
        with contextlib.suppress(UsageError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (10137, "9.9 KiB"),
        (-5000, "-4.9 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**64, "16.0 EiB"),
    ],
)
def test_size_as_text(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=2**50))
def test_a_written_size_reads_back_within_its_last_digit(size: int) -> None:
    text = format_size(size)
    if text.endswith("PiB"):
        return
    assert parse_size(text) == pytest.approx(size, rel=0.051)


def test_growth_has_its_sign() -> None:
    assert [format_growth(size) for size in (1024, 0, -7)] == ["+1.0 KiB", "0 B", "-7 B"]


def test_counts_are_exact_while_short() -> None:
    assert [format_count(count) for count in (0, 9_999, 10_000, 999_951, 1_234_567)] == [
        "0",
        "9,999",
        "10.0K",
        "1.0M",
        "1.2M",
    ]
    assert format_count(9_999_999, exact_below=10_000_000) == "9,999,999"


def test_durations_as_text() -> None:
    assert [format_ns(ns) for ns in (0, 999, 1_200, 1_200_000, 83_400_000_000)] == [
        "0 ns",
        "999 ns",
        "1.2 us",
        "1.2 ms",
        "1.4 min",
    ]
    assert [format_seconds(seconds) for seconds in (0.5, 0.99999, 5, 7200)] == [
        "500.0 ms",
        "1.0 s",
        "5.0 s",
        "2.0 h",
    ]


def test_one_is_singular() -> None:
    assert [counted(n, "block") for n in (0, 1, 2, 1200)] == [
        "0 blocks",
        "1 block",
        "2 blocks",
        "1,200 blocks",
    ]
    assert [counted(n, "block") for n in (-1, -2)] == ["-1 block", "-2 blocks"]
    assert [counted(n, "process", "processes") for n in (1, 3)] == ["1 process", "3 processes"]
