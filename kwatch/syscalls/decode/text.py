# SPDX-License-Identifier: Apache-2.0
"""Bytes as strace prints strings: C escapes, octal, and dots for what is left out."""

from __future__ import annotations

import re
from itertools import pairwise

#: C has short forms of BEL and BS too, which strace does not use.
_SHORT = {
    9: "\\t",
    10: "\\n",
    11: "\\v",
    12: "\\f",
    13: "\\r",
    34: '\\"',
    92: "\\\\",
}
_PLAIN = re.compile(rb"[ !#-\[\]-~]*").fullmatch

#: Each byte where the next one is no digit, and where it is.
_ESCAPED = [_SHORT.get(b, chr(b) if 32 <= b < 127 else f"\\{b:o}") for b in range(256)]
_BEFORE_DIGIT = [_SHORT.get(b, chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in range(256)]
_DIGITS = frozenset(b"0123456789")


def escaped(data: bytes) -> str:
    """The bytes without quotes, with everything that is not printable ASCII escaped."""
    if _PLAIN(data):
        return data.decode("ascii")
    parts = [
        (_BEFORE_DIGIT if following in _DIGITS else _ESCAPED)[byte]
        for byte, following in pairwise(data)
    ]
    return "".join(parts) + _ESCAPED[data[-1]]


def quoted(data: bytes, total: int, most: int) -> str:
    """`total` bytes of which `data` was captured, `most` of them shown: `"abc"...`."""
    shown = data[:most] if len(data) > most else data
    return f'"{escaped(shown)}"...' if total > len(shown) else f'"{escaped(shown)}"'


def string(data: bytes, most: int) -> str:
    """A C string: up to its null byte, or with dots where that was not captured or not shown."""
    end = data.find(0)
    if 0 <= end <= most:
        return f'"{escaped(data[:end])}"'
    return f'"{escaped(data[:most])}"...'


def hexadecimal(data: bytes, total: int, most: int) -> str:
    """As `quoted`, with each byte as `\\x12`."""
    shown = "".join(f"\\x{byte:02x}" for byte in data[:most])
    return f'"{shown}"' + ("..." if total > min(most, len(data)) else "")
