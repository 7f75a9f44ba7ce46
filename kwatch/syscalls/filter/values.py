# SPDX-License-Identifier: Apache-2.0
"""The values that fields are compared with: words become numbers, bytes or names, checked."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable
from fractions import Fraction
from typing import AnyStr

from kwatch.syscalls import names
from kwatch.syscalls.classes import CLASSES
from kwatch.syscalls.filter.errnos import ERRNOS, MAX_ERRNO
from kwatch.syscalls.filter.error import near
from kwatch.syscalls.filter.expression import Value
from kwatch.syscalls.filter.fields import PATTERNS, Field, Kind, Operator

_INTEGER = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_DURATION = re.compile(r"(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(ns|us|µs|μs|ms|s)", re.ASCII)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_MAX_DIGITS = 24
_MAX_COMM = 15

_INTEGER_HINT = "write a number such as 7, -100, 0x1f (hexadecimal) or 0644 (octal)"
_CALL_HINT = "write names as strace prints them, such as openat"
_DURATION_HINT = "write a number with ns, us, ms or s, such as 10ms or 1.5s"


class ValueProblem(ValueError):
    """The value does not fit the field; `hint` says what would."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


def value_of(field: Field, operator: Operator, text: str, is_quoted: bool) -> Value:
    """The value that a word or a quoted text means. Raises ValueProblem."""
    if is_quoted and field.kind not in (Kind.TEXT, Kind.CALL, Kind.CLASS):
        raise ValueProblem(f"{field.name} is no text", "remove the quotes")
    return _READERS[field.kind](field, operator, text)


def _integer(field: Field, operator: Operator, text: str) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None:
        name = text.removeprefix("-")
        hint = f"write: error = {name}" if field.name == "ret" and name in ERRNOS else _INTEGER_HINT
        raise ValueProblem(f"{field.name} is a number, and this is none", hint)
    sign, digits = match.groups()
    is_hex = digits[:2] in ("0x", "0X")
    base = 16 if is_hex else 8 if digits.startswith("0") else 10
    value = int(sign + digits, base) if len(digits) <= _MAX_DIGITS else 1 << 64
    if is_hex and not sign and 1 << 63 <= value < 1 << 64:
        return value - (1 << 64)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueProblem("this number has more than 64 bits", "fields are signed 64-bit numbers")
    return value


def _duration(field: Field, operator: Operator, text: str) -> int:
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueProblem(f"{field.name} is a time with a unit, and this is none", _DURATION_HINT)
    value = Fraction(match[1]) * _UNITS[match[2]]
    if value != int(value):
        raise ValueProblem("this time is finer than a nanosecond", _DURATION_HINT)
    if value >= 1 << 63:
        raise ValueProblem("this time is longer than 64 bits of nanoseconds", _DURATION_HINT)
    return int(value)


def _errno(field: Field, operator: Operator, text: str) -> int:
    number = ERRNOS.get(text)
    if number is not None:
        return number
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 0 < int(text) <= MAX_ERRNO:
        return int(text)
    hint = near(text.upper(), ERRNOS) or "write its name, such as ENOENT, or its number"
    raise ValueProblem("there is no such error", hint)


def _text(field: Field, operator: Operator, text: str) -> bytes:
    value = text.encode(errors="surrogateescape")
    if field.name == "comm" and operator is not Operator.GLOB and len(value) > _MAX_COMM:
        cut = value[:_MAX_COMM].decode(errors="ignore")
        raise ValueProblem(
            f"the kernel cuts names to {_MAX_COMM} bytes, so no comm is that long",
            f"write {cut}" if operator is not Operator.ENDSWITH else "use contains or startswith",
        )
    return value


def _call(field: Field, operator: Operator, text: str) -> str:
    if text.startswith("%"):
        raise ValueProblem("there is no such system call", "compare class with a class of calls")
    known = names.everything()
    if operator not in PATTERNS:
        if text not in known:
            hint = near(text, names.all_names()) or _CALL_HINT
            raise ValueProblem("there is no such system call", hint)
    elif not any(map(matcher(operator, text), known)):
        hint = near(text, names.all_names()) or _CALL_HINT
        raise ValueProblem("this matches no system call", hint)
    return text


def _class(field: Field, operator: Operator, text: str) -> str:
    name = text.removeprefix("%")
    if name not in CLASSES:
        hint = near(name, CLASSES) or f"the classes are {', '.join(sorted(CLASSES))}"
        if name in names.all_names():
            hint = f"write: syscall = {name}"
        raise ValueProblem("there is no such class of system calls", hint)
    return name


_READERS: dict[Kind, Callable[[Field, Operator, str], Value]] = {
    Kind.NUMBER: _integer,
    Kind.DURATION: _duration,
    Kind.ERRNO: _errno,
    Kind.TEXT: _text,
    Kind.CALL: _call,
    Kind.CLASS: _class,
}


def matcher(operator: Operator, pattern: AnyStr) -> Callable[[AnyStr], bool]:
    """Whether a text matches a pattern, for the operators in PATTERNS."""
    match operator:
        case Operator.CONTAINS:
            return lambda text: pattern in text
        case Operator.STARTSWITH:
            return lambda text: text.startswith(pattern)
        case Operator.ENDSWITH:
            return lambda text: text.endswith(pattern)
        case _:
            return functools.partial(_matches, _glob_regex(pattern))


def _matches(regex: re.Pattern[AnyStr], text: AnyStr) -> bool:
    return regex.match(text) is not None


def _glob_regex(pattern: AnyStr) -> re.Pattern[AnyStr]:
    """As fnmatch; in bytes, `?` matches one byte."""
    if isinstance(pattern, str):
        return re.compile(fnmatch.translate(pattern))
    return re.compile(fnmatch.translate(pattern.decode("latin-1")).encode("latin-1"))
