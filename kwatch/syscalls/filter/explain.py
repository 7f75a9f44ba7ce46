# SPDX-License-Identifier: Apache-2.0
"""Says where each part of a filter is decided."""

from __future__ import annotations

from kwatch.syscalls.filter.expression import (
    Comparison,
    Expression,
    comparisons,
    text_of,
)
from kwatch.syscalls.filter.fields import Kind, Stage
from kwatch.syscalls.filter.in_kernel import MAX_TESTS, stage_of
from kwatch.syscalls.filter.split import Split, split


def explain(expression: Expression) -> str:
    """The filter as kwatch understands it, and its parts by where they are decided: some lines."""
    parts = split(expression)
    rows = [
        ("filter", text_of(expression)),
        ("kernel, at the entry", _part(parts.entry)),
        ("kernel, at the return", _part(parts.exit)),
        ("user space", "nothing is left" if parts.user is None else text_of(parts.user)),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name + ':':{width + 2}}{text}" for name, text in rows]
    return "\n".join([*lines, *_notes(parts)])


def _part(part: Expression | None) -> str:
    return "every call passes" if part is None else text_of(part)


def _notes(parts: Split) -> list[str]:
    if parts.user is None:
        return []
    kept = [each for each in comparisons(parts.user) if stage_of(each) is Stage.USER]
    notes = sorted({_reason(each) for each in kept})
    if parts.is_cut:
        notes.append(f"the kernel compares no more than {MAX_TESTS} values and places of texts")
    if parts.entry is None and parts.exit is None:
        notes.append("the kernel cannot drop any call: user space receives all of them")
    return [f"  {note}" for note in notes]


def _reason(comparison: Comparison) -> str:
    """Why the kernel does not decide it."""
    name = comparison.field.name
    if comparison.field.stage is Stage.USER:
        return f"{name}: the kernel does not know it"
    if comparison.field.kind is Kind.CALL:
        return f"{name}: the pattern matches some calls that have no name"
    return f"{name}: this glob needs a loop"
