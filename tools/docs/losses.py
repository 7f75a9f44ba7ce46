# SPDX-License-Identifier: Apache-2.0
"""The table of loss causes in docs/semantics.md."""

from __future__ import annotations

from docs.reference import table
from kwatch.model.losses import LOSS_CAUSES

_BEGIN = "<!-- losses: begin; made by `make docs` -->\n"
_END = "<!-- losses: end -->\n"
_HEADERS = ("cause", "what was lost", "makes the verdict unsure")


def page(text: str) -> str:
    """The page with the table of today between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    rows = [(f"`{one.name}`", one.meaning, "yes" * one.unsure) for one in LOSS_CAUSES.values()]
    return before + _BEGIN + "\n" + "\n".join(table(_HEADERS, rows)) + "\n" + _END + after
