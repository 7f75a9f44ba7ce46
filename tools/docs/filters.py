# SPDX-License-Identifier: Apache-2.0
"""The table of fields in docs/filters.md."""

from __future__ import annotations

from docs.reference import table
from kwatch.syscalls.filter.fields import FIELDS, Field, Stage

_BEGIN = "<!-- fields: begin; made by `make docs` -->\n"
_END = "<!-- fields: end -->\n"
_HEADERS = ("field", "meaning", "operators", "decided", "in sysdig")
_DECIDED = {
    Stage.ENTRY: "kernel, at the entry",
    Stage.EXIT: "kernel, at the return",
    Stage.USER: "user space",
}


def page(text: str) -> str:
    """The page with the table of today between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    rows = [_row(field) for field in FIELDS.values()]
    return before + _BEGIN + "\n" + "\n".join(table(_HEADERS, rows)) + "\n" + _END + after


def _row(field: Field) -> tuple[str, ...]:
    operators = " ".join(f"`{operator.value}`" for operator in field.operators)
    synonym = f"`{field.synonym}`" if field.synonym else ""
    return f"`{field.name}`", field.meaning, operators, _DECIDED[field.stage], synonym
