# SPDX-License-Identifier: Apache-2.0
"""Times of files, with the date in a comment."""

from __future__ import annotations

import datetime
import struct

_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE


def file_times(data: bytes, is_narrow: bool, is_special: bool) -> str:
    """An array of timespecs (`is_special`: that may mean now or none) or timevals."""
    pairs = struct.Struct("<ii" if is_narrow else "<qq")
    whole = data[: len(data) // pairs.size * pairs.size]
    shown = [_one(seconds, rest, is_special) for seconds, rest in pairs.iter_unpack(whole)]
    return f"[{', '.join(shown)}]"


def _one(seconds: int, rest: int, is_special: bool) -> str:
    if is_special and rest == _UTIME_NOW:
        return "UTIME_NOW"
    if is_special and rest == _UTIME_OMIT:
        return "UTIME_OMIT"
    unit = "tv_nsec" if is_special else "tv_usec"
    return f"{{tv_sec={seconds}, {unit}={rest}}}{_date(seconds, rest, is_special)}"


def dated(seconds: int) -> str:
    """Seconds, with their date."""
    return f"{seconds}{_date(seconds, 0, False)}"


def date(seconds: int, fraction: str = "") -> str:
    """`2026-01-31T12:00:00+0000`; nothing for what no calendar has."""
    try:
        when = datetime.datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{when:%Y-%m-%dT%H:%M:%S}{fraction}{when:%z}"


def _date(seconds: int, rest: int, is_special: bool) -> str:
    """The date as a comment; nothing for 0."""
    if not seconds and not rest:
        return ""
    digits = f"{rest:0{9 if is_special else 6}d}"
    shown = date(seconds, f".{digits}" if rest else "")
    return f" /* {shown} */" if shown else ""
