# SPDX-License-Identifier: Apache-2.0
"""What the user wants to watch: `SITE[+OFFSET][:LENGTH]`. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace

from kwatch.errors import UsageError

LENGTHS = (1, 2, 4, 8)

_SITE = re.compile(r"(?P<name>.+?)(\+(?P<offset>0x[0-9a-fA-F]+|\d+))?(:(?P<length>\d+))?")
_LINE = re.compile(r"(?P<file>[^:]*\.[A-Za-z][A-Za-z0-9+]*):(?P<line>\d+)(?P<rest>[+:].*)?")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_EXAMPLES = "give an address, a variable, a function or a line: 0x55d0c0de1010:8, total, list.c:42"


class Part(enum.StrEnum):
    """What is watched of blocks: them while they live, then until they are given out again, or the
    bytes behind them.
    """

    LIVE = "live"
    FREED = "freed"
    END = "end"


@dataclass(frozen=True, slots=True)
class Site:
    """`name`: of a variable or a function, or of a file if there is a `line`.

    `address`: given instead of a name. `length`: None if the user gave none.
    """

    text: str
    name: str = ""
    address: int | None = None
    line: int | None = None
    offset: int = 0
    length: int | None = None
    part: Part = Part.LIVE


def parse_site(text: str) -> Site:
    """Raises UsageError."""
    prefix, _, rest = text.partition(":")
    if prefix not in (Part.FREED, Part.END) or not rest or rest.isdigit():
        return _parsed(text)
    site = _parsed(rest)
    if site.address is not None:
        raise UsageError(f"{text!r}: an address does not allocate blocks", "give a function")
    if prefix == Part.END and (site.offset or site.length):
        raise UsageError(
            f"{text!r}: the bytes behind a block are chosen for each block", f"try end:{site.name}"
        )
    return replace(site, text=text, part=Part(prefix))


def _parsed(text: str) -> Site:
    if at_line := _LINE.fullmatch(text):
        rest = _SITE.fullmatch("line" + (at_line["rest"] or ""))
        if rest is None or rest["name"] != "line":
            raise _invalid(text)
        return Site(text, at_line["file"], None, int(at_line["line"]), *_numbers(rest, text))
    match = _SITE.fullmatch(text)
    if match is None:
        raise _invalid(text)
    name = match["name"]
    if name[0].isdigit():
        return Site(text, "", _address(name, text), None, *_numbers(match, text))
    return Site(text, name, None, None, *_numbers(match, text))


def _numbers(match: re.Match[str], text: str) -> tuple[int, int | None]:
    length = int(match["length"]) if match["length"] else None
    if length is not None and length not in LENGTHS:
        raise UsageError(
            f"{text!r}: a watchpoint has 1, 2, 4 or 8 bytes, not {length}",
            f"try {text.rpartition(':')[0]}:{_next_length(length)}",
        )
    return int(match["offset"] or "0", 0), length


def _next_length(length: int) -> int:
    return next((each for each in LENGTHS if each >= length), LENGTHS[-1])


def _address(name: str, text: str) -> int:
    if not _HEX.fullmatch(name):
        raise _invalid(text)
    address = int(name, 16)
    if not address < 1 << 56:
        raise UsageError(f"{text!r}: no program has memory at {address:#x}", _EXAMPLES)
    return address


def _invalid(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a site", _EXAMPLES)


def require_aligned(text: str, address: int, length: int) -> None:
    """Raises UsageError."""
    if address % length:
        lower = next(each for each in reversed(LENGTHS) if not address % each)
        raise UsageError(
            f"{text!r}: {address:#x} is not a multiple of {length}: the processor watches aligned "
            f"memory",
            f"give a length of {lower}",
        )
