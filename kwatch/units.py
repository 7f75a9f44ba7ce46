# SPDX-License-Identifier: Apache-2.0
"""Sizes, times and counts as people write and read them."""

from __future__ import annotations

import math
import re
import reprlib
from decimal import Decimal

from kwatch.errors import UsageError

_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)\s*(?:([KMGT])(?:i?B)?|B)?", re.ASCII | re.IGNORECASE)
_SIZE_HINT = "write a number with an optional K, M, G or T, such as 4096, 64K or 1.5M"
_MAX_SIZE = 2**63 - 1

_TIME = re.compile(r"(\d+\.?\d*|\.\d+)\s*(us|ms|s|m|min|h|d)?", re.ASCII | re.IGNORECASE)
_TIME_HINT = "write seconds, or a number with us, ms, s, m, h or d, such as 0.5, 500ms or 2m"
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_SECONDS = 100 * 365 * 86400.0

#: Each unit, and how many of it make one of the next unit.
_Units = tuple[tuple[str, float], ...]
_BYTES: _Units = (
    *((f" {name}", 1024) for name in ("B", "KiB", "MiB", "GiB", "TiB", "PiB")),
    (" EiB", math.inf),
)
_COUNTS: _Units = (*((name, 1000) for name in ("", "K", "M", "G", "T", "P")), ("E", math.inf))
_TIMES: _Units = (
    *((f" {name}", 1000) for name in ("ns", "us", "ms")),
    *((" s", 60), (" min", 60), (" h", 24), (" d", math.inf)),
)


def parse_size(text: str) -> int:
    """Bytes from `4096`, `64K`, `64KiB` or `1.5M`; K, M, G and T are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None and _SIZE.fullmatch(text.strip().removeprefix("-")):
        raise _not_a("size", text, "it is negative", _SIZE_HINT)
    if match is None:
        raise _not_a("size", text, "it is not a number with a unit of bytes", _SIZE_HINT)
    size = Decimal(match[1]) * 1024 ** " KMGT".index((match[2] or " ").upper())
    if size > _MAX_SIZE:
        raise _not_a("size", text, "it is too large", _SIZE_HINT)
    return int(size)


def parse_seconds(text: str, or_zero: bool = False) -> float:
    """Seconds from `5`, `0.5`, `500ms`, `2m` or `1h`; more than zero, unless `or_zero`."""
    match = _TIME.fullmatch(text.strip())
    if match is None and _TIME.fullmatch(text.strip().removeprefix("-")):
        raise _not_a("time", text, "it is negative", _TIME_HINT)
    if match is None:
        raise _not_a("time", text, "it is not a number with a unit of time", _TIME_HINT)
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()]
    if seconds == 0 and not or_zero:
        raise _not_a("time", text, "it must be more than zero", _TIME_HINT)
    if seconds > _MAX_SECONDS:
        raise _not_a("time", text, "it is longer than a hundred years", _TIME_HINT)
    return seconds


def format_size(size: int) -> str:
    """`9.9 KiB`; exact below 1 KiB."""
    return _scaled(size, _BYTES)


def format_growth(size: int) -> str:
    """`+9.9 KiB`, `-12 B` or `0 B`."""
    return f"{'+' if size > 0 else ''}{format_size(size)}"


def format_count(count: int, exact_below: int = 10_000) -> str:
    """`1.2M`; exact, as `9,999`, below `exact_below`."""
    return f"{count:,}" if abs(count) < exact_below else _scaled(count, _COUNTS)


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 block`, `1,200 blocks`; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if abs(count) == 1 else plural or noun + 's'}"


def format_ns(duration: int) -> str:
    """`1.2 ms`, from nanoseconds."""
    return _scaled(duration, _TIMES)


def format_seconds(seconds: float) -> str:
    """`1.2 s`; milliseconds below one second."""
    return _scaled(seconds * 1e3, _TIMES[2:])


def _scaled(amount: float, units: _Units) -> str:
    unit = 0
    while round(abs(amount), 1) >= units[unit][1]:
        amount /= units[unit][1]
        unit += 1
    number = str(amount) if isinstance(amount, int) else f"{amount:.1f}"
    return number + units[unit][0]


def _not_a(noun: str, text: str, why: str, hint: str) -> UsageError:
    return UsageError(f"{reprlib.repr(text)} is not a {noun} kwatch can use: {why}", hint)


def printable(text: str) -> str:
    """`text` with `?` for control characters, which move the cursor and begin lines."""
    return "".join(char if char.isprintable() else "?" for char in text)
