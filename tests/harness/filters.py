# SPDX-License-Identifier: Apache-2.0
"""Filters and calls that they may accept: random ones, and each comparison once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, product

from hypothesis import strategies as st

from kwatch.syscalls import names
from kwatch.syscalls.classes import CLASSES
from kwatch.syscalls.filter.call import Call
from kwatch.syscalls.filter.expression import Comparison, Not, Value, conjunction, disjunction
from kwatch.syscalls.filter.fields import FIELDS, PATTERNS, Field, Kind, Operator
from kwatch.wire.events import Abi

NUMBERS = [-(2**63), -4096, -4095, -600, -100, -11, -2, -1, 0, 1, 2, 3, 1000, 2**32, 2**63 - 1]
IDS = [0, 1, 2, 3, 7, 1000, 2**32 - 1]
DURATIONS = [0, 1, 999, 1500, 10**6, 10**10, 2**63 - 1]
ERRNOS = [1, 2, 11, 95, 133, 600, 4095]
LONG = b"abcdefghabcdef"
COMMS = [b"", b"a", b"ab", b"aab", b"nginx", LONG + b"a", LONG + b"b", b"\xff\xc3\xa9"]
PATHS = [b"/", b"/etc/passwd", b"a b'\\\"", b"\xff"]
PIECES = [b"a", b"b", b"ng", b"habcdef", b"\xff", b"\xc3", b"/", b"", "é".encode()]
GLOBS = [b"", b"*", b"a", b"ab*", b"*ab", b"*b*", b"a?b", b"[!a]*", b"*f*b", b"**", b"\xff*"]
CALLS = ["read", "openat", "socket", "syscall_999", "syscall_0", "futex"]
CALL_PIECES = "r read s socket".split()
CALL_GLOBS = "read *at *_* syscall_* syscall_??? *[0-8] *".split()
CALL_NUMBERS = [0, 3, 5, 41, 63, 102, 198, 202, 257, 960, 961, 999, 1023, 1024, 65535]


def _values(field: Field, operator: Operator) -> list[Value]:
    match field.kind:
        case Kind.TEXT if operator is Operator.GLOB:
            return [*GLOBS]
        case Kind.TEXT:
            return [*COMMS, *(PIECES if operator in PATTERNS else PATHS)]
        case Kind.CALL if operator in PATTERNS:
            return [*(CALL_GLOBS if operator is Operator.GLOB else CALL_PIECES)]
        case Kind.CALL:
            return [*CALLS]
        case Kind.CLASS:
            return sorted(CLASSES)
        case Kind.ERRNO:
            return [*ERRNOS]
        case _:
            return [*(DURATIONS if field.kind is Kind.DURATION else NUMBERS)]


def every_comparison() -> Iterator[Comparison]:
    """Each field with each operator and each value above; one of the arguments is enough."""
    for field in FIELDS.values():
        for operator in field.operators if field.name not in ("arg1", "arg2", "arg3") else ():
            values = _values(field, operator)
            if operator is Operator.EXISTS:
                yield Comparison(field, operator)
            elif operator is Operator.IN:
                yield Comparison(field, operator, (values[0], values[-1]))
            else:
                yield from (Comparison(field, operator, (value,)) for value in values)


@st.composite
def _comparisons(draw):
    field = draw(st.sampled_from([*FIELDS.values()]))
    operator = draw(st.sampled_from(field.operators))
    if operator is Operator.EXISTS:
        return Comparison(field, operator)
    values = st.sampled_from(_values(field, operator))
    most = 3 if operator is Operator.IN else 1
    return Comparison(field, operator, tuple(draw(st.lists(values, min_size=1, max_size=most))))


def _joined(terms):
    several = st.lists(terms, min_size=2, max_size=3)
    return st.one_of(terms.map(Not), several.map(conjunction), several.map(disjunction))


EXPRESSIONS = st.recursive(_comparisons(), _joined, max_leaves=8)


@dataclass
class Recorded:
    """A call with its ABI and number, which the kernel has, beside what user space compares."""

    abi: Abi
    nr: int
    call: Call


def every_value() -> list[Recorded]:
    """Calls in which each field has each value above, and no value if that is possible."""
    ids, results, fds = cycle(IDS), cycle([*NUMBERS, None]), cycle([None, *NUMBERS])
    lengths, comms = cycle([*DURATIONS, None]), cycle(COMMS)
    groups, paths = cycle([*PATHS, None]), cycle([*COMMS, *PATHS, None])
    recorded = []
    for abi, nr in product(Abi, CALL_NUMBERS):
        arg, ret = next(fds) or 0, next(results)
        call = Call(
            *(next(ids), next(ids), next(comms), next(ids), next(ids), names.name(abi, nr)),
            *((arg,) * 6, ret, next(lengths), next(groups), next(fds), next(paths)),
        )
        recorded.append(Recorded(abi, nr, call))
    return recorded


@st.composite
def recorded_calls(draw):
    abi, nr = draw(st.sampled_from([*Abi])), draw(st.sampled_from(CALL_NUMBERS))
    number, id_, text = map(st.sampled_from, (NUMBERS, IDS, PATHS))
    call = Call(
        pid=draw(id_),
        tid=draw(id_),
        comm=draw(st.sampled_from(COMMS)),
        uid=draw(id_),
        cgroup_id=draw(id_),
        syscall=names.name(abi, nr),
        args=tuple(draw(number) for _ in range(6)),
        ret=draw(st.none() | number),
        duration_ns=draw(st.none() | st.sampled_from(DURATIONS)),
        cgroup=draw(st.none() | text),
        fd=draw(st.none() | number),
        path=draw(st.none() | text),
    )
    return Recorded(abi, nr, call)
