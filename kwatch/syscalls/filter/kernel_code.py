# SPDX-License-Identifier: Apache-2.0
"""C for the BPF programs from the parts of a filter that the kernel decides.

The C is made of names in this file and of numbers: no text of the user reaches it. It has no loop,
no call and no pointer but the one to `struct filter_call` (bpf/filter_call.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from kwatch.syscalls.filter.errnos import MAX_ERRNO
from kwatch.syscalls.filter.expression import And, Comparison, Expression, Not, Or
from kwatch.syscalls.filter.fields import Kind, Operator
from kwatch.syscalls.filter.in_kernel import CallNumbers, PlacedText, call_numbers, placed_texts
from kwatch.syscalls.filter.split import Split
from kwatch.wire.events import COMM_LEN
from kwatch.wire.maps import CALL_NUMBERS

_NUMBERS = {
    "pid": "call->pid",
    "tid": "call->tid",
    "uid": "call->uid",
    "cgroup_id": "call->cgroup_id",
    "ret": "call->result",
    "error": "call->result",
    "duration": "call->duration_ns",
    **{f"arg{n}": f"call->arguments[{n}]" for n in range(6)},
}
_COMPARED = {
    Operator.EQUAL: "==",
    Operator.UNEQUAL: "!=",
    Operator.IN: "==",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
}
_PARAMETER = "const struct filter_call *call"
_WORD = 8
_ALWAYS, _NEVER = "1", "0"


def kernel_code(split: Split) -> str:
    """`filter_at_entry` and `filter_at_exit`, which say whether the filter may accept the call.

    The macro FILTER_AT_EXIT comes before them if the latter can drop a call.
    """
    macro = "#define FILTER_AT_EXIT\n" if split.exit is not None else ""
    functions = _function("filter_at_entry", split.entry) + _function("filter_at_exit", split.exit)
    return macro + functions


def _function(name: str, part: Expression | None) -> str:
    """One line for each term of a conjunction."""
    terms = part.terms if isinstance(part, And) else (part,) if part is not None else ()
    condition = " &&\n\t       ".join(f"({_condition(term)})" for term in terms) or _ALWAYS
    return f"static __always_inline bool {name}({_PARAMETER})\n{{\n\treturn {condition};\n}}\n"


def _condition(expression: Expression) -> str:
    match expression:
        case Comparison():
            return _comparison(expression)
        case Not(term):
            return f"!({_condition(term)})"
        case And(terms):
            return _all(_condition(term) for term in terms)
        case Or(terms):
            return _any(_condition(term) for term in terms)


def _all(conditions: Iterable[str]) -> str:
    return _joined(" && ", conditions) or _ALWAYS


def _any(conditions: Iterable[str]) -> str:
    return _joined(" || ", conditions) or _NEVER


def _joined(operator: str, conditions: Iterable[str]) -> str:
    listed = list(conditions)
    return listed[0] if len(listed) == 1 else operator.join(f"({each})" for each in listed)


def _comparison(comparison: Comparison) -> str:
    kind = comparison.field.kind
    if kind not in (Kind.CALL, Kind.CLASS, Kind.TEXT):
        return _compare_numbers(comparison)
    if kind is Kind.TEXT:
        is_any = _any(_has_text(text) for text in placed_texts(comparison) or ())
    else:
        is_any = _has_number(call_numbers(comparison))
    return f"!({is_any})" if comparison.operator is Operator.UNEQUAL else is_any


def _compare_numbers(comparison: Comparison) -> str:
    """As predicate.py: false if the call does not have the value."""
    value = f"(__s64){_NUMBERS[comparison.field.name]}"
    guards = []
    if comparison.field.kind is Kind.ERRNO:
        guards = [f"{value} < 0", f"{value} >= {_signed(-MAX_ERRNO)}"]
    elif comparison.field.kind is Kind.DURATION:
        guards = [f"{value} >= 0"]
    if comparison.operator is Operator.EXISTS:
        return _all(guards)
    sign = -1 if comparison.field.kind is Kind.ERRNO else 1
    numbers = [_signed(sign * cast(int, number)) for number in comparison.values]
    compared = _COMPARED[comparison.operator]
    return _all([*guards, _any(f"{value} {compared} {number}" for number in numbers)])


def _has_number(numbers: CallNumbers) -> str:
    conditions = [
        f"call->abi == {int(abi)} && ({_any(_has_bit(*word) for word in words.items())})"
        for abi, words in numbers.words.items()
        if words
    ]
    conditions += [f"call->nr >= {CALL_NUMBERS}"] if numbers.beyond else []
    return _any(conditions)


def _has_bit(index: int, bits: int) -> str:
    if bits.bit_count() == 1:
        return f"call->nr == {index * 64 + bits.bit_length() - 1}"
    return f"call->nr >> 6 == {index} && {_unsigned(bits)} >> (call->nr & 63) & 1"


def _has_text(text: PlacedText) -> str:
    return _any(_has_bytes(text.pattern, offset) for offset in text.offsets)


def _has_bytes(text: bytes, offset: int) -> str:
    """Whether the comm, as two words, has these bytes at the offset."""
    place = b"\0" * offset, b"\0" * (COMM_LEN - offset - len(text))
    mask = place[0] + b"\xff" * len(text) + place[1]
    wanted = place[0] + text + place[1]
    words = range(0, COMM_LEN, _WORD)
    tests = [_word_test(n // _WORD, mask[n : n + _WORD], wanted[n : n + _WORD]) for n in words]
    return _all(test for test in tests if test)


def _word_test(index: int, mask: bytes, wanted: bytes) -> str:
    bits, value = (int.from_bytes(part, "little") for part in (mask, wanted))
    if not bits:
        return ""
    return f"(call->comm[{index}] & {_unsigned(bits)}) == {_unsigned(value)}"


def _unsigned(number: int) -> str:
    return f"{number:#x}ULL"


def _signed(number: int) -> str:
    return f"(__s64){_unsigned(number & (1 << 64) - 1)}"
